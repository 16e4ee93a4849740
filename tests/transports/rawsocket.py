"""A WebSocket client for tests that says what no library would: bytes on a socket, and what comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from edge_mcp.transports.frames import CLOSE, TEXT, Event, Reader, close_of, frame

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, 1.3."""


@dataclass
class Raw:
    """A connection that is a WebSocket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str
    frames: Reader = field(default_factory=lambda: Reader(1 << 26, masked=False))
    got: list[Event] = field(default_factory=list)

    async def send(self, *parts: bytes, step: int = 0) -> None:
        """Send bytes, `step` at a time (0: all at once)."""
        data = b"".join(parts)
        for at in range(0, len(data), step or max(1, len(data))):
            self.writer.write(data[at : at + (step or len(data))])
            await self.writer.drain()

    async def event(self) -> Event | None:
        """The next message or control frame; None at the end."""
        async with asyncio.timeout(30):
            while not self.got:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self.got += self.frames.feed(data)
        return self.got.pop(0)

    async def closed(self) -> tuple[list[Event], int, str]:
        """All that comes until the close frame, whose code and reason they are; 0 when there is none. Answers it."""
        events: list[Event] = []
        while (event := await self.event()) is not None:
            if event[0] == CLOSE:
                self.writer.write(frame(CLOSE, event[1], masked=True))
                return events, *close_of(event[1])
            events.append(event)
        return events, 0, ""

    async def echoes(self, text: bytes = b'"still there"') -> bool:
        """Whether a message comes back."""
        await self.send(frame(TEXT, text, masked=True))
        return await self.event() == (TEXT, text)

    async def end(self) -> None:
        """Whether the server ends the connection too."""
        async with asyncio.timeout(30):
            with suppress(ConnectionError):
                assert await self.reader.read() == b""


def handshake(host: str, fields: str = "") -> str:
    """A request that becomes a WebSocket."""
    upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    return f"GET /mcp HTTP/1.1\r\nHost: {host}\r\n{upgrade}{fields}\r\n"


@asynccontextmanager
async def raw(url: str, fields: str = "", behind: bytes = b"") -> AsyncIterator[Raw]:
    """Connect; `behind` is sent with the request, in one piece."""
    host, port = url.partition("://")[2].removesuffix("/mcp").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(handshake(f"{host}:{port}", fields).encode() + behind)
    try:
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101"), head
        yield Raw(reader, writer, head)
    finally:
        writer.transport.abort()
