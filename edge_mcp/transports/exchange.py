"""One HTTP request as a connection of its own: every request of 2026-07-28, and of older revisions without sessions."""

from collections.abc import AsyncIterator
from dataclasses import replace

from edge_mcp.transports.base import Frame, Peer
from edge_mcp.transports.sse import Reply


class Exchange:
    """One frame in, its answer out; see transports.base.Connection. `half_close`: it ends with the calls of the frame, for
    one that may have no answer."""

    encoding = "json"

    def __init__(self, peer: Peer, frame: bytes, reply: Reply, half_close: bool = False) -> None:
        self.peer = replace(peer, passing=True)
        self.half_close = half_close
        self._frame = frame
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection: ends once the frame is answered."""
        yield self._frame
        if not self.half_close:
            await self._reply.wait()

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection. What is about no request has no stream here, and is left out."""
        if last:
            await self._reply.finish(frame)
        elif about is not None:
            await self._reply.send(frame)

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: without sessions no client could take the stream up again."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        self._reply.end()
