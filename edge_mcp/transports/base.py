"""The seam between the server (or a client) and a way of exchanging frames."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

MAX_MESSAGE = 32 * 1024 * 1024
"""Bytes in a frame, unless configured otherwise: a 12-megapixel PNG in base64 fits."""

EDGE = 4096
"""How many of its first and last bytes are kept of an oversized frame."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """A frame that was larger than allowed: its first and last bytes (to find the request's id) and its size in bytes."""

    head: bytes
    tail: bytes
    size: int
    limit: int


Frame = bytes | Oversized


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is there: `address` for logs, and the folders that this peer's `file:` arguments may name."""

    address: str
    roots: tuple[str, ...] = field(default=())


class Connection(Protocol):
    """A peer that exchanges whole frames, one MCP message each."""

    peer: Peer
    half_close: bool
    """Whether the peer still listens after its last frame (a stdio host that closed its end does)."""

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames in order, until the peer ends the conversation; never raises for what the peer sent."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send one frame whole; returns when there is room for another. Raises: ConnectionClosed."""
        ...

    async def close(self, reason: str = "") -> None:
        """End the conversation; `__aiter__` then stops. Idempotent."""
        ...


Serve = Callable[[Connection], Awaitable[None]]


class Listener(Protocol):
    """Accepts peers."""

    async def listen(self, serve: Serve) -> None:
        """Serve every peer until cancelled (or, with a single peer, until it is gone). Raises: ConfigError."""
        ...
