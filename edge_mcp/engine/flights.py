"""Single flight: what several want at once is done once, for all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from edge_mcp.errors import EngineError


class Flights:
    """Work under way, by key."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    async def share(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` once for all who ask for `key` meanwhile; a caller's cancellation does not stop it for the others."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(_awaited(work))
            task.add_done_callback(lambda done: (self._tasks.pop(key, None), done.cancelled() or done.exception()))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise EngineError("the server is stopping") from None
            raise

    async def landed(self, key: Hashable) -> None:
        """Wait until none is under way for `key`, whatever comes of it."""
        while task := self._tasks.get(key):
            await asyncio.wait([task])

    def cancel(self) -> None:
        """Stop them all; who waits is told that the server is stopping."""
        for task in self._tasks.values():
            task.cancel()


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
