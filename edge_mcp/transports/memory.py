"""Two connected ends in one process: for tests, and for a client beside its server."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from edge_mcp.errors import ConnectionClosed
from edge_mcp.transports.base import EDGE, MAX_MESSAGE, Frame, Oversized, Peer

_ROOM = 16  # frames on the way before `send` waits


class _Pipe:
    """One direction."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.closed = False
        self.changed = asyncio.Condition()

    async def close(self) -> None:
        async with self.changed:
            self.closed = True
            self.changed.notify_all()


class MemoryConnection:
    """One end of a pair; see transports.base.Connection."""

    half_close = False

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, limit: int, roots: tuple[str, ...], encoding: str) -> None:
        self.peer = Peer("memory", roots)
        self.encoding = encoding
        self._incoming = incoming
        self._outgoing = outgoing
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        pipe = self._incoming
        while True:
            async with pipe.changed:
                await pipe.changed.wait_for(lambda: pipe.frames or pipe.closed)
                if not pipe.frames:
                    return
                frame = pipe.frames.popleft()
                pipe.changed.notify_all()
            size = len(frame)
            yield frame if size <= self._limit else Oversized(frame[:EDGE], frame[-EDGE:], size, self._limit)

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        pipe = self._outgoing
        async with pipe.changed:
            await pipe.changed.wait_for(lambda: pipe.closed or len(pipe.frames) < _ROOM)
            if pipe.closed:
                raise ConnectionClosed("the connection is closed")
            pipe.frames.append(frame)
            pipe.changed.notify_all()

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        await self._incoming.close()
        await self._outgoing.close()


def pair(
    limit: int = MAX_MESSAGE, roots: tuple[str, ...] = (), encoding: str = "json"
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two ends (the server's, the client's); what one sends, the other receives."""
    up, down = _Pipe(), _Pipe()
    return MemoryConnection(up, down, limit, roots, encoding), MemoryConnection(down, up, limit, (), encoding)
