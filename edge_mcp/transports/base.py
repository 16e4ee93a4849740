"""The seam between the server (or a client) and a way of exchanging frames."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Protocol, runtime_checkable

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
    """Who is there: `address` for logs, the folders that its `file:` arguments may name, and who it proved to be.

    `passing`: it is there for one request, and its next one comes as another peer. `number` tells peers apart.
    """

    address: str
    roots: tuple[str, ...] = ()
    principal: str = ""
    passing: bool = False
    number: int = field(default_factory=partial(next, count(1)), compare=False, repr=False)

    @property
    def owner(self) -> str:
        """Whose is what is kept from call to call: the principal's; of one who proved nothing this peer's alone, or its
        address's where each request comes as another peer."""
        if self.principal:
            return f"principal {self.principal}"
        return f"address {self.address}" if self.passing else f"peer {self.number}"


class Connection(Protocol):
    """A peer that exchanges whole frames, one MCP message each."""

    peer: Peer
    encoding: str
    """How its messages are encoded: a name of protocol.codec, `json` or `msgpack`."""
    half_close: bool
    """Whether the peer still listens when the iteration has ended: a stdio host that closed its end does. What is in flight
    is then answered, and open subscriptions are ended. (A request of its own, as an HTTP POST, is no end: its iteration
    goes on until it is answered or the peer is gone.)"""

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames in order, until the peer ends the conversation; never raises for what the peer sent."""
        ...

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """Send one frame whole; returns when there is room for another. Raises: ConnectionClosed.

        `about` is the id of the peer's request that the frame belongs to, and `last` says that it answers it: a transport
        that gives each request a stream of its own routes by them.
        """
        ...

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """Close the stream of one request, for the peer to take up again after `retry_ms`; does nothing where requests have
        no stream of their own, or the peer could not take it up."""
        ...

    async def close(self, reason: str = "") -> None:
        """End the conversation; `__aiter__` then stops. Idempotent."""
        ...


class Pulse(Protocol):
    """How a connection is kept alive. `changed` is called when the peer should be told anew."""

    changed: Callable[[], None] | None

    def wish(self, interval_s: float) -> None:
        """The peer asks for another interval; `announce` says what it gets."""
        ...

    def announce(self) -> dict[str, Any]:
        """What the peer is told: `intervalMs`, `graceMs`, `state`."""
        ...


@runtime_checkable
class Kept(Protocol):
    """A connection whose peer is pinged."""

    pulse: Pulse


Serve = Callable[[Connection], Awaitable[None]]


class Listener(Protocol):
    """Accepts peers."""

    async def listen(self, serve: Serve) -> None:
        """Serve every peer until cancelled (or, with a single peer, until it is gone). Raises: ConfigError."""
        ...
