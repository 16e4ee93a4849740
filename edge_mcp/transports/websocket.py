"""MCP over WebSocket: one message per frame, on an asyncio transport. RFC 6455 is in frames.py, compression in deflate.py."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from edge_mcp.errors import ConnectionClosed
from edge_mcp.measurements import Links
from edge_mcp.transports import frames, kernel
from edge_mcp.transports.base import MAX_MESSAGE, Frame, Peer
from edge_mcp.transports.compressors import SLICE, Compressors, Inflater
from edge_mcp.transports.deflate import FULL, NO_TAKEOVER, OFF, Agreement, Choice
from edge_mcp.transports.limits import ByteBudget, Hold
from edge_mcp.transports.wheel import Wheel

logger = logging.getLogger(__name__)

CLOSE_S = 1.0
"""For the peer to close too. It may still be sending, and would lose the close frame to a TCP reset if its bytes were left
unread: they are read meanwhile."""
LINGER_S = 15.0
"""The same while what broke a bound is still coming: a peer may read no sooner than it has sent all of a long message."""
STUCK_S = 60.0
"""A peer that takes nothing of what it was sent for so long is given up."""
READ_BYTES = 65536
MOST_QUEUED_BYTES = 65536
MOST_QUEUED = 256
"""While so many messages, or bytes of messages, wait to be handled, nothing more is read."""
_JOINED = 16384  # up to here one write with a copy is cheaper than two
_LITTLE = 4096  # in one message, of which it is not worth to keep count
_OPCODES = {"json": frames.TEXT, "msgpack": frames.BINARY}


@dataclass(slots=True)
class Shared:
    """What a listener's WebSockets have in common. `take` counts a message of an address, and says how many seconds too early
    it comes; `allowed` is what the device's load allows of compression (deflate.FULL…)."""

    wheel: Wheel
    limit: int = MAX_MESSAGE
    take: Callable[[str], float] = lambda address: 0.0
    budget: ByteBudget = field(default_factory=lambda: ByteBudget(4 * MAX_MESSAGE))
    allowed: Callable[[], str] = lambda: FULL
    links: Links = field(default_factory=Links)
    compressors: Compressors = field(default_factory=Compressors)
    # One for all: it is read into and taken from in one step.
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))


class WebSocketConnection(asyncio.BufferedProtocol):
    """An accepted WebSocket; see transports.base.Connection. What breaks a rule or a bound ends it with a code and a reason.

    `pulse` is its place on the wheel, for which it is a wheel.Line. `left` is called once when it is gone.
    """

    half_close = False

    def __init__(
        self,
        shared: Shared,
        transport: asyncio.Transport,
        peer: Peer,
        encoding: str = "json",
        agreed: Agreement | None = None,
        far: bool = False,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self.peer = peer
        self.encoding = encoding
        self.transport: asyncio.Transport | None = transport
        self._shared = shared
        self._agreed = agreed
        self._left = left
        self._opcode = _OPCODES[encoding]
        self._inflater = Inflater(agreed.theirs, agreed.theirs_fresh, shared.limit) if agreed else None
        self._choice = Choice() if agreed else None
        self._reader = frames.Reader(shared.limit, inflate=self._inflater)
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._hold = Hold(shared.budget, peer.address)
        self._arrived: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._full: asyncio.Event | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._held = False  # whether bytes are counted, or nothing is read
        self._ending = False
        self._broken = False
        self._comes = False  # whether bytes came although it is broken
        shared.links.sockets.add(self)
        self.pulse = shared.wheel.add(self, far)

    # Connection

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        while True:
            while not self._queue:
                if self._ending:
                    return
                self._arrived = asyncio.get_running_loop().create_future()
                await self._arrived
            message = self._queue.popleft()
            self._queued -= len(message)
            if self._held:
                self._settle()
            if wait := self._shared.take(self.peer.address):
                self._end(frames.TRY_LATER, f"too many messages. Try again in {math.ceil(wait)} s")
                return
            yield message

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection. Whole messages wait for their turn when the peer does not read, so that each holds its own bytes
        and nothing is copied for it."""
        if self._full is None and not self._turn.locked() and len(frame) <= SLICE:
            self._open()
            self._put(frame, self._compressed(frame))
        else:
            async with self._turn:
                await self._room()
                await self._put_slowly(frame)
        await self._room()

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection. A reason is that of a server that stops; there is none when the conversation is over."""
        self._end(frames.RESTART if reason else frames.NORMAL, reason)
        if self.transport is None:
            return
        self._gone = self._gone or asyncio.get_running_loop().create_future()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while not await self._is_gone(self._gone) and self._comes:
                        self._comes = False
        finally:
            self._abort()

    async def _is_gone(self, gone: "asyncio.Future[None]") -> bool:
        await asyncio.wait([gone], timeout=CLOSE_S)
        return gone.done()

    # wheel.Line

    def ping(self, payload: bytes) -> None:
        """See wheel.Line. A connection that is pinged is idle: what it has for compression is given back."""
        self._shared.compressors.forget(self)
        self._write(frames.PING, payload)

    async def drain(self) -> None:
        """See wheel.Line."""
        for _ in range(3):  # until the loop has looked at the sockets, and called who reads them
            await asyncio.sleep(0)

    def drop(self, reason: str) -> None:
        """See wheel.Line."""
        logger.debug("%s: %s", self.peer.address, reason)
        self._abort()

    # What it holds

    @property
    def held(self) -> int:
        """Bytes that are held for it: messages that came or are to go, and the state of its inflater."""
        outgoing = self.transport.get_write_buffer_size() if self.transport else 0
        return self._reader.held + self._queued + outgoing + (self._inflater.held if self._inflater else 0)

    # asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio."""
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self.received(self._shared.buffer[:nbytes])

    def received(self, data: bytes | memoryview) -> None:
        """Bytes came."""
        self.pulse.heard()
        if self._broken:
            self._comes = True
            return
        try:
            for opcode, payload in self._reader.feed(data):
                self._on_event(opcode, payload)
        except frames.Violation as violation:
            self._end(violation.code, violation.reason)
            self._discard()
            return
        if self._reader.held or self._queued > _LITTLE or len(self._queue) > 1 or self._held:
            self._settle()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio."""
        self.transport = None
        self._ending = True
        self.pulse.close()
        self._hold.set(0)
        self._shared.compressors.forget(self)
        self._shared.links.sockets.discard(self)
        self.resume_writing()
        self._wake()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self._left()

    def pause_writing(self) -> None:
        """See asyncio: the peer does not read."""
        self._full = asyncio.Event()
        self._watch(self._outgoing())

    def resume_writing(self) -> None:
        """See asyncio."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        full, self._full = self._full, None
        if full is not None:
            full.set()

    # Coming

    def _on_event(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.PING:
            if not self.pulse.pinged():
                self._end(frames.POLICY, "too many pings")
            elif not self._ending:
                self._write(frames.PONG, payload)
        elif opcode == frames.PONG:
            self.pulse.ponged(payload)
        elif opcode == frames.CLOSE:
            code, _ = frames.close_of(payload)
            self._end(code, "", keep=True)
            if self.transport is not None:
                self.transport.close()
        elif opcode != self._opcode:
            kind = "text" if self._opcode == frames.TEXT else "binary"
            self._end(frames.UNSUPPORTED, f"this subprotocol has {kind} frames only")
        elif not self._ending:
            self._queue.append(payload)
            self._queued += len(payload)
            self._wake()

    def _settle(self) -> None:
        """Count what is held, and read on if it is little."""
        if self.transport is None or self._ending:
            return
        if not self._hold.set(self._reader.held + self._queued):
            self._end(frames.TRY_LATER, "too many bytes of messages are held for all peers. Try again later")
            self._discard()
            return
        full = self._queued >= MOST_QUEUED_BYTES or len(self._queue) >= MOST_QUEUED
        self._held = full or self._reader.held > 0 or self._queued > _LITTLE
        if full == self.transport.is_reading() and not self.transport.is_closing():
            (self.transport.pause_reading if full else self.transport.resume_reading)()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    # Going

    def _open(self) -> asyncio.Transport:
        if self._ending or self.transport is None:
            raise ConnectionClosed("the WebSocket is closed")
        return self.transport

    async def _room(self) -> None:
        """Wait until the peer has read. Raises: ConnectionClosed when it was waited for in vain."""
        while (full := self._full) is not None:
            await full.wait()
            self._open()

    def _compressed(self, frame: bytes) -> Iterator[bytes] | None:
        """Its pieces compressed, if that pays."""
        if self._agreed is None or self._choice is None:
            return None
        shared, allowed = self._shared, self._shared.allowed()
        if allowed in (NO_TAKEOVER, OFF):
            shared.compressors.forget(self)
        if not self._choice.wants(frame, allowed):
            return None
        fresh = self._agreed.ours_fresh or allowed == NO_TAKEOVER
        return shared.compressors.pieces(self, frame, self._agreed.ours, fresh)

    async def _put_slowly(self, frame: bytes) -> None:
        """Send a long message: while it is compressed others get their turn."""
        self._open()
        pieces = self._compressed(frame)
        if pieces is None:
            self._put(frame, None)
            return
        made: list[bytes] = []
        try:
            for piece in pieces:
                made.append(piece)
                await asyncio.sleep(0)
            self._open()
        except BaseException:
            self._shared.compressors.forget(self)  # it knows of bytes that the peer never gets
            raise
        self._put(frame, iter(made))

    def _put(self, frame: bytes, pieces: Iterator[bytes] | None) -> None:
        smaller = None if pieces is None or self._choice is None else b"".join(pieces)
        if smaller is not None and self._choice is not None and not self._choice.came(frame, len(smaller)):
            self._shared.compressors.forget(self)
            smaller = None
        self._shared.links.sent(len(frame), len(frame) if smaller is None else len(smaller))
        self._write(self._opcode, frame if smaller is None else smaller, smaller is not None)
        self.pulse.sent()

    def _write(self, opcode: int, payload: bytes, compressed: bool = False) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        head = frames.head(opcode, len(payload), compressed)
        if len(payload) > _JOINED:
            transport.write(head)
            transport.write(payload)
        else:
            transport.write(head + payload)

    def _outgoing(self) -> int:
        """Bytes on their way to the peer."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size() + kernel.unacknowledged(self.transport)

    def _watch(self, before: int) -> None:
        """Give the peer up if it takes nothing."""

        def look() -> None:
            now = self._outgoing()
            if now >= before:
                self._end(frames.POLICY, "nothing of what was sent is read")
                self.drop(f"read nothing for {STUCK_S:.0f} s")
            else:
                self._watch(now)

        self._stuck = asyncio.get_running_loop().call_later(STUCK_S, look)

    # The end

    def _end(self, code: int, reason: str, keep: bool = False) -> None:
        """Say good-bye; nothing is sent any more. `keep`: what came before is still handled."""
        if self._ending:
            return
        self._ending = True
        self._write(frames.CLOSE, frames.closing(code, reason))
        self.pulse.close()
        if not keep:
            self._queue.clear()
            self._queued = 0
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        self._wake()

    def _discard(self) -> None:
        """Forget what came, and whatever comes."""
        self._broken = True
        self._reader = frames.Reader(self._shared.limit)
        self._hold.set(0)

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
