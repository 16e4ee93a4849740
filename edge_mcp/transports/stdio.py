"""MCP over standard input and output: one message a line (2026-07-28, Transports: stdio).

The transport takes the process's descriptors 0 and 1 for itself, and leaves /dev/null and standard error in their place:
a print in any library, here or in a child, can then not tear a frame.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator

from edge_mcp.errors import ConnectionClosed
from edge_mcp.transports.base import EDGE, MAX_MESSAGE, Frame, Oversized, Peer, Serve

_CHUNK = 256 * 1024


class Lines:
    """Bytes in, lines out; a line beyond `limit` is passed over without being kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # no newline before this
        self._dropped = 0  # bytes of the current line that were passed over
        self._head = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Lines that `data` completes; empty ones are left out."""
        self._buffer += data
        frames: list[Frame] = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            frames += self._line(end)
            del self._buffer[: end + 1]
            self._searched = 0
        if len(self._buffer) > self._limit:
            self._pass_over(len(self._buffer))
        self._searched = len(self._buffer)
        return frames

    def finish(self) -> list[Frame]:
        """What the stream ended with, if its last line has no newline."""
        return self._line(len(self._buffer))

    def _pass_over(self, end: int) -> None:
        """Keep of the current line only its first and last bytes."""
        self._head = self._head or bytes(self._buffer[:EDGE])
        passed = end - min(EDGE, self._limit)
        self._dropped += passed
        del self._buffer[:passed]

    def _line(self, end: int) -> list[Frame]:
        size = self._dropped + end
        if size > self._limit:
            head = self._head or bytes(self._buffer[:EDGE])
            tail = bytes(self._buffer[max(0, end - EDGE) : end])
            self._head, self._dropped = b"", 0
            return [Oversized(head, tail, size, self._limit)]
        line = bytes(memoryview(self._buffer)[:end]).strip()
        return [line] if line else []


class StdioConnection:
    """A pair of descriptors, which it owns; see transports.base.Connection."""

    encoding = "json"
    half_close = True

    def __init__(self, read_fd: int, write_fd: int, peer: Peer, limit: int = MAX_MESSAGE) -> None:
        self.peer = peer
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._lines = Lines(limit)
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[None] | None = None
        self._open = True
        # Only a pipe or a socket can fill up; and O_NONBLOCK on a terminal would hold for the user's shell as well.
        mode = os.fstat(write_fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            os.set_blocking(write_fd, False)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        data = b" "
        while data and self._open:
            await self._readable()
            data = self._read()
            for frame in self._lines.feed(data) if data else self._lines.finish():
                yield frame

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        async with self._turn:
            rest = memoryview(frame + b"\n")
            try:
                while rest and self._open:
                    rest = rest[await self._write(rest) :]
            except OSError as error:
                raise ConnectionClosed(f"standard output is closed: {error.strerror}") from error
            finally:
                self._open = self._open and not rest  # nothing may follow a torn frame
            if rest:
                raise ConnectionClosed("standard output is closed")

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        if self._open:
            self._open = False
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    async def _readable(self) -> None:
        """Wait until a read would not block; the descriptor is watched only meanwhile, so that unread input costs nothing."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        try:
            loop.add_reader(self._read_fd, _set, self._waiting)
        except PermissionError:  # epoll refuses regular files, which never block
            await asyncio.sleep(0)
            return
        try:
            await self._waiting
        finally:
            loop.remove_reader(self._read_fd)

    def _read(self) -> bytes:
        try:
            return os.read(self._read_fd, _CHUNK) if self._open else b""
        except OSError:
            return b""  # a terminal or socket that went away is an end like any other

    async def _write(self, data: memoryview) -> int:
        """Write some of `data`, as soon as there is room for it. Raises: OSError."""
        try:
            return os.write(self._write_fd, data)
        except BlockingIOError:
            pass
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._write_fd, _set, room)
        try:
            await room
        finally:
            loop.remove_writer(self._write_fd)
        return 0


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class StdioListener:
    """The one peer at standard input and output; see transports.base.Listener."""

    def __init__(self, roots: tuple[str, ...], limit: int = MAX_MESSAGE) -> None:
        self._roots = roots
        self._limit = limit

    async def listen(self, serve: Serve) -> None:
        """See Listener; returns when the peer has closed its end and everything is answered."""
        await serve(StdioConnection(*take_over(), Peer("stdio", self._roots), self._limit))


def take_over() -> tuple[int, int]:
    """Move standard input and output to new descriptors, and put /dev/null and standard error in their place."""
    read_fd, write_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return read_fd, write_fd
