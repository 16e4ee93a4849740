"""A session of Streamable HTTP until 2025-11-25: one conversation over many HTTP requests (2025-11-25, Transports)."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from edge_mcp.errors import ConnectionClosed
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.headers import LegacyMessage
from edge_mcp.protocol.jsonrpc import RequestId
from edge_mcp.protocol.versions import LEGACY
from edge_mcp.transports.base import Frame, Peer
from edge_mcp.transports.inbox import Inbox
from edge_mcp.transports.replay import Replay
from edge_mcp.transports.sse import Reply

logger = logging.getLogger(__name__)

_ROOM = 4  # frames that wait to be read
_MAX_STREAMS = 512  # of one session, with those that are kept for a client to come back
_GENERAL = 0  # the number of the stream for what belongs to no request


class _Result(msgspec.Struct):
    protocolVersion: str


class _Initialized(msgspec.Struct):
    result: _Result | None = None


class Stream:
    """What is sent about the requests of one POST, or (number 0) about none."""

    def __init__(self, number: int, ids: Iterable[RequestId], reply: Reply | None) -> None:
        self.number = number
        self.ids = set(ids)
        self.cancelled: set[RequestId] = set()
        self.reply = reply
        self.claim: Reply | None = None
        """Who will have it next."""
        self.events = 0
        self.seen = 0
        """Up to which event it was written to a client."""
        self.resumable = number == _GENERAL
        """Whether a client could come back for it: it has seen an event id."""
        self.done = False
        self.turn = asyncio.Lock()

    @property
    def taken(self) -> bool:
        """Whether a client reads it."""
        return self.reply is not None or self.claim is not None

    def event_id(self, number: int) -> str:
        """The id of one of its events, unique in the session."""
        return f"{self.number}-{number}"


class HttpSession:
    """One client's conversation; see transports.base.Connection.

    A frame goes out on the stream of the request that it is about. A client that leaves does not cancel its calls: where it
    has seen an event of the stream, it may come back for the rest (`resume`).
    """

    encoding = "json"
    half_close = False

    def __init__(self, peer: Peer, replay: Replay, clock: Callable[[], float]) -> None:
        self.id = secrets.token_urlsafe(24)
        self.peer = peer
        self.version: str | None = None
        self.used = clock()
        self.closed = False
        self._clock = clock
        self._replay = replay
        self._incoming: Inbox[tuple[bytes, Stream | None]] = Inbox(_ROOM)
        self._general = Stream(_GENERAL, (), None)
        self._streams: dict[int, Stream] = {_GENERAL: self._general}
        self._by_request: dict[RequestId, Stream] = {}
        self._current: Stream | None = None
        self._numbers = 0

    @property
    def active(self) -> bool:
        """Whether a client waits for something."""
        return any(stream.taken for stream in self._streams.values())

    @property
    def primes(self) -> bool:
        """Whether the client knows of streams that the server closes for a while (2025-11-25)."""
        return self.version is not None and LEGACY.index(self.version) >= LEGACY.index("2025-11-25")

    def touch(self) -> None:
        """A client was here."""
        self.used = self._clock()

    def in_use(self, ids: Iterable[RequestId]) -> RequestId | None:
        """The first of `ids` that an open request has already, or that comes twice."""
        seen: set[RequestId] = set()
        for known in ids:
            if known in self._by_request or known in seen:
                return known
            seen.add(known)
        return None

    def open(self, ids: Iterable[RequestId], reply: Callable[[Callable[[], bytes]], Reply]) -> Stream:
        """A stream for the requests of a POST; `reply` makes its answer, given what a stream of events begins with."""
        self._sweep()
        self._numbers += 1
        stream = Stream(self._numbers, ids, None)
        stream.reply = reply(lambda: self._begun(stream))
        self._streams[stream.number] = stream
        self._by_request.update(dict.fromkeys(stream.ids, stream))
        return stream

    async def push(self, frame: bytes, message: LegacyMessage, stream: Stream | None) -> None:
        """Hand a frame to the conversation, once there is room for it. Raises: ConnectionClosed."""
        try:
            await self._incoming.put((frame, stream))
        except BaseException:  # the session has ended, or the client left: nothing is going to answer
            if stream is not None:
                self._finish(stream)
            raise
        for known in message.cancels:
            if (cancelled := self._by_request.get(known)) is not None:
                cancelled.cancelled.add(known)  # the joint answer to a batch may yet be sent about it
                if cancelled.cancelled == cancelled.ids:
                    await self._call_off(cancelled, known)

    def leave(self, stream: Stream, reply: Reply) -> None:
        """The HTTP request that `reply` answers is over."""
        self.touch()
        if stream.reply is reply:
            stream.reply = None
        if stream.claim is reply:
            stream.claim = None
        reply.end()

    def resumed(self, last_event_id: str | None) -> tuple[Stream, int] | None:
        """The stream to take up again and after which event; the general one without an id. None: unknown or forgotten."""
        if last_event_id is None:
            return self._general, self._general.seen
        number, dash, event = last_event_id.partition("-")
        if not dash or not (number.isdecimal() and event.isdecimal()) or len(last_event_id) > 40:
            return None
        stream = self._streams.get(int(number))
        return (stream, int(event)) if stream is not None and stream.resumable else None

    async def resume(self, stream: Stream, after: int, reply: Reply) -> None:
        """Send on `reply` what a stream had after an event, and what comes from now on. Raises: ConnectionClosed."""
        for before in (stream.reply, stream.claim):
            if before is not None:
                before.abandon()  # the client knows best that it is gone; and whoever writes to it must not hold us up
        stream.reply, stream.claim = None, reply
        async with stream.turn:
            if self.closed or stream.claim is not reply:
                reply.end()
                return
            stream.reply, stream.claim = reply, None
            await reply.begin()
            for number, frame in self._replay.after(self.id, stream.number, after):
                await reply.send(frame, stream.event_id(number))
                stream.seen = max(stream.seen, number)
            if stream.done:
                reply.end()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        while (incoming := await self._incoming.get()) is not None:
            frame, self._current = incoming
            yield frame

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection. A frame about a request whose client left for good goes nowhere."""
        if self.closed:
            raise ConnectionClosed("the session has ended")
        about_none = self._current if last else self._general  # an answer without an id is to what was read last
        stream = about_none if about is None else self._by_request.get(about)
        if stream is None:
            return
        if self.version is None and last:
            self.version = _negotiated(frame)
        async with stream.turn:
            await self._deliver(stream, frame, last)
        if last:
            self._finish(stream)

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection."""
        stream = self._by_request.get(about)
        if stream is None or stream.reply is None or not self.primes:
            return
        reply = stream.reply
        async with stream.turn:
            mark = stream.event_id(stream.events)
            try:
                await reply.write(b"retry: %d\nid: %s\ndata: \n\n" % (retry_ms, mark.encode()))
            except ConnectionClosed:
                logger.debug("%s: gone before its stream was closed", self.peer.address)
            self.leave(stream, reply)

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        self.end()

    def end(self) -> None:
        """End the session. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._replay.drop(self.id, iter(list(self._streams)))
        for stream in self._streams.values():
            if stream.reply is not None:
                stream.reply.end()
        self._incoming.close()

    async def _deliver(self, stream: Stream, frame: bytes, last: bool) -> None:
        reply = stream.reply
        if reply is not None and last and not reply.streaming:
            await reply.finish(frame)
            return
        if reply is None and not stream.resumable:
            return
        stream.events += 1
        number = stream.events
        self._replay.add(self.id, stream.number, number, frame)
        if reply is None:
            return
        stream.resumable = True
        try:
            await (reply.finish if last else reply.send)(frame, stream.event_id(number))
            stream.seen = number
        except ConnectionClosed:
            self.leave(stream, reply)

    def _begun(self, stream: Stream) -> bytes:
        """What the stream of a POST begins with: an id to come back to (2025-11-25, priming event)."""
        if not self.primes:
            return b""
        stream.resumable = True
        return b"id: %s\ndata: \n\n" % stream.event_id(stream.seen).encode()

    async def _call_off(self, stream: Stream, request_id: RequestId) -> None:
        """End the stream of a cancelled request with an error: where one ends without an answer, the official SDKs come back
        for it again and again."""
        for known in stream.ids:
            if self._by_request.get(known) is stream:
                del self._by_request[known]
        frame = jsonrpc.error(request_id, jsonrpc.REQUEST_CANCELLED, "the request was cancelled")
        try:
            async with stream.turn:
                if not stream.done:
                    await self._deliver(stream, frame, last=True)
        finally:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        """Nothing more comes on this stream."""
        stream.done = True
        for known in stream.ids:
            if self._by_request.get(known) is stream:
                del self._by_request[known]
        if stream.reply is not None:
            stream.reply.end()
        if not self._replay.has(self.id, stream.number):
            self._streams.pop(stream.number, None)

    def _sweep(self) -> None:
        """Forget streams that are over and of which nothing is kept."""
        if len(self._streams) > _MAX_STREAMS // 2:
            over = [stream.number for stream in self._streams.values() if stream.done]
            forgotten = [number for number in over if not self._replay.has(self.id, number)]
            for number in [*forgotten, *over[: max(0, len(self._streams) - _MAX_STREAMS)]]:
                self._streams.pop(number, None)


def _negotiated(frame: bytes) -> str | None:
    """The revision in an answer to `initialize`."""
    try:
        result: Any = msgspec.json.decode(frame, type=_Initialized).result
    except msgspec.DecodeError:
        return None
    return result.protocolVersion if result is not None else None
