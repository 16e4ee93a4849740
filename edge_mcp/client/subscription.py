"""What changes on a device, one after the other."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from edge_mcp.client.backoff import Backoff
from edge_mcp.client.link import Link
from edge_mcp.errors import ConnectionClosed


class Subscription:
    """Within an `async with`, an async iterator of what has changed: one of the words `tools`, `prompts` and `resources` for a
    list, or a resource's URI. What changes again before it was taken comes once.

    Entering raises CallError where the server has no such thing. After the device was away, all that is wanted comes once:
    it may have changed. The iterator raises ConnectionClosed when the client is closed.
    """

    def __init__(self, link: Link, wanted: Sequence[str]) -> None:
        self._link = link
        self._wanted = tuple(dict.fromkeys(wanted))
        self._news: dict[str, None] = {}
        self._came = asyncio.Event()
        self._begun = asyncio.Event()
        self._missed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait([self._task, begun], return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                self._task.result()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        finally:
            begun.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # it was told

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        assert self._task is not None, "entered before"  # noqa: S101
        while not self._news:
            if self._task.done():
                self._task.result()
                raise StopAsyncIteration
            self._came.clear()
            await self._came.wait()
        word = next(iter(self._news))
        del self._news[word]
        return word

    async def _listen(self) -> None:
        backoff = Backoff()
        try:
            while True:
                client = await self._link.connected(None)
                with suppress(ConnectionClosed):
                    await client.listen(self._wanted, self._note)
                self._missed = True
                await asyncio.sleep(backoff.next())  # the link may not have noticed yet that the conversation has ended
        finally:
            self._came.set()

    def _note(self, word: str) -> None:
        if word:
            self._news[word] = None
        else:
            self._begun.set()
            if self._missed:
                self._missed = False
                self._news.update(dict.fromkeys(self._wanted))
        self._came.set()
