"""The in-memory transport keeps the contract."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from edge_mcp.transports.base import Connection, Oversized
from edge_mcp.transports.memory import MemoryConnection, pair
from tests.transports import contract
from tests.transports.contract import *  # noqa: F403 - the contract's tests


class MemoryPeer(contract.OtherEnd):
    def __init__(self, end: MemoryConnection) -> None:
        self._end = end
        self._frames = aiter(end)

    async def send(self, frame: bytes) -> None:
        await self._end.send(frame)

    async def receive(self) -> bytes | None:
        frame = await anext(self._frames, None)
        assert not isinstance(frame, Oversized)
        return frame

    async def close(self) -> None:
        await self._end.close()


@pytest.fixture
async def link() -> AsyncIterator[contract.Link]:
    tasks: list[asyncio.Task[None]] = []

    async def connect(serve: Callable[[Connection], Awaitable[None]]) -> contract.OtherEnd:
        ours, theirs = pair(contract.LIMIT)

        async def run() -> None:
            await serve(ours)

        tasks.append(asyncio.create_task(run()))
        return MemoryPeer(theirs)

    yield contract.Link(connect)
    for task in tasks:
        task.cancel()
    await contract.settled(tasks)
