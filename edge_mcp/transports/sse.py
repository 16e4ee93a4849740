"""Answers to HTTP requests: JSON where one frame is all there is to say, server-sent events otherwise."""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import web

from edge_mcp.errors import ConnectionClosed

KEEP_ALIVE_S = 15.0
SERVER = "edge-mcp"
_STREAM_HEADERS = {
    "Server": SERVER,
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # or nginx keeps the events to itself
}
_PING = b": ping\n\n"


def event(frame: bytes, event_id: str = "", kind: bytes = b"message") -> bytes:
    """One event with a frame."""
    data = frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    mark = b"id: %s\n" % event_id.encode() if event_id else b""
    return b"event: %s\n%sdata: %s\n\n" % (kind, mark, data)


class Reply:
    """The answer to one HTTP request, undecided until its first frame: a lone answer is JSON, all else a stream of events.

    After `patience` seconds without any frame it becomes a stream too, whose comments keep the connection from being taken
    for dead. `first` is what the stream begins with. Nothing is queued: a frame waits until the one before is taken.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        headers: Mapping[str, str],
        status: Callable[[bytes], int],
        patience: float = KEEP_ALIVE_S,
        first: Callable[[], bytes] = bytes,
        keep_alive: float = KEEP_ALIVE_S,
    ) -> None:
        self.headers = dict(headers)
        self.response: web.StreamResponse | None = None
        self._request = request
        self._status = status
        self._first = first
        self._keep_alive = keep_alive
        self._stream: web.StreamResponse | None = None
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._turn = asyncio.Lock()
        self._timer = self._loop.call_later(patience, self._tick)
        self._beat: asyncio.Task[None] | None = None

    @property
    def streaming(self) -> bool:
        """Whether it has become a stream."""
        return self._stream is not None

    @property
    def over(self) -> bool:
        """Whether nothing more can be sent."""
        return self._over.is_set()

    async def wait(self) -> web.StreamResponse | None:
        """The finished response; None when it ended without one."""
        await self._over.wait()
        return self.response

    async def begin(self) -> None:
        """Become a stream now. Raises: ConnectionClosed."""
        await self._write(b"")

    async def send(self, frame: bytes, event_id: str = "") -> None:
        """Send a frame that others follow. Raises: ConnectionClosed."""
        await self._write(event(frame, event_id))

    async def finish(self, frame: bytes, event_id: str = "") -> None:
        """Send the last frame. Raises: ConnectionClosed."""
        async with self._turn:  # it may be becoming a stream just now
            if self._stream is None:
                if not self.over:
                    headers = {**self.headers, "Content-Type": "application/json"}
                    self.response = web.Response(body=frame, status=self._status(frame), headers=headers)
                self.end()
                return
        await self._write(event(frame, event_id))
        self.end()

    async def write(self, data: bytes) -> None:
        """Write to the stream as it is. Raises: ConnectionClosed."""
        await self._write(data)

    def end(self) -> None:
        """End the response with what has been sent. Idempotent."""
        self._timer.cancel()
        if not self.over:
            self.response = self.response or self._stream
            self._over.set()

    def abandon(self) -> None:
        """The client is gone, or has to go: whoever waits to send is told. Idempotent."""
        self.end()
        if (transport := self._request.transport) is not None:
            transport.abort()

    async def _write(self, data: bytes) -> None:
        async with self._turn:
            if self.over:
                raise ConnectionClosed("the request is over")
            try:
                stream = self._stream
                if stream is None:
                    stream = await self._start()
                    data = self._first() + data or _PING  # something at once, so that the client has its status
                if data:
                    await stream.write(data)
            except (ConnectionError, RuntimeError) as error:  # RuntimeError: aiohttp's word for a response that is over
                raise ConnectionClosed("the client is gone") from error

    async def _start(self) -> web.StreamResponse:
        stream = web.StreamResponse(headers=_STREAM_HEADERS | self.headers)
        await stream.prepare(self._request)
        self._stream = stream
        self._timer.cancel()
        self._timer = self._loop.call_later(self._keep_alive, self._tick)
        return stream

    def _tick(self) -> None:
        if self.over:
            return
        if self._beat is None or self._beat.done():  # else the client does not read, and one comment waits already
            self._beat = self._loop.create_task(self._ping())
        self._timer = self._loop.call_later(self._keep_alive, self._tick)

    async def _ping(self) -> None:
        try:
            await self._write(_PING if self._stream is not None else b"")
        except ConnectionClosed:
            self.end()
