"""The MCP endpoint on HTTP: POST, GET and DELETE of every revision (2026-07-28 and 2025-11-25, Streamable HTTP)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from edge_mcp.errors import ConnectionClosed
from edge_mcp.protocol import headers, jsonrpc
from edge_mcp.protocol.headers import LegacyMessage, ModernNotification, ModernRequest, Refusal
from edge_mcp.protocol.param_headers import check_params
from edge_mcp.protocol.versions import BATCHES
from edge_mcp.transports.base import MAX_MESSAGE, Connection, Peer, Serve
from edge_mcp.transports.exchange import Exchange
from edge_mcp.transports.limits import ByteBudget
from edge_mcp.transports.session import HttpSession, Stream
from edge_mcp.transports.sessions import Sessions
from edge_mcp.transports.sse import KEEP_ALIVE_S, Reply

logger = logging.getLogger(__name__)

SESSION = "Mcp-Session-Id"
BODY_S = 60.0
MAX_HELD = 64 * 1024 * 1024
"""Bytes of all requests together that are held at once, or two of the largest that are allowed."""
LEGACY_PATIENCE_S = 2.0
"""An older client can come back for a stream, but not for an answer in JSON: what takes longer is streamed."""

Schema = Callable[[str], Awaitable[Mapping[str, Any] | None]]
Stateless = Callable[[Connection, str], Awaitable[None]]


async def no_schema(tool: str) -> None:
    """For a server without tools that ask for header fields."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: for a request's body to arrive, until an answer that takes long becomes a stream, between its comments."""

    body: float = BODY_S
    patience: float = KEEP_ALIVE_S
    legacy_patience: float = LEGACY_PATIENCE_S
    keep_alive: float = KEEP_ALIVE_S


class Endpoint:
    """Answers requests to the MCP endpoint that are let in already.

    `schema` finds a tool's inputSchema. `stateless` serves an older client's request on its own, in the revision given; without
    it such a client gets a session.
    """

    def __init__(
        self,
        serve: Serve,
        sessions: Sessions,
        limit: int = MAX_MESSAGE,
        schema: Schema = no_schema,
        stateless: Stateless | None = None,
        timing: Timing = Timing(),
    ) -> None:
        self._serve = serve
        self._sessions = sessions
        self._limit = limit
        self._schema = schema
        self._stateless = stateless
        self._timing = timing
        self.budget = ByteBudget(max(MAX_HELD, 2 * limit))

    async def post(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """Answer a POST whose declared content is checked already."""
        if refusal := headers.check_accept(request.headers, headers.JSON, headers.EVENTS):
            return refused(refusal)
        with self.budget.lease(peer.address) as take:
            body = await read(request, self._limit, self._timing.body, take)
            if isinstance(body, Refusal):
                return refused(body)
            return await self._routed(request, peer, body)

    async def _routed(self, request: web.BaseRequest, peer: Peer, body: bytes) -> web.StreamResponse:
        match headers.route(request.headers, body):
            case Refusal() as refusal:
                return refused(refusal)
            case ModernRequest() as modern:
                return await self._modern(request, peer, body, modern)
            case ModernNotification():
                return web.Response(status=202)
            case LegacyMessage() as message if self._stateless is not None:
                return await self._alone(request, peer, body, message, self._stateless)
            case message:
                return await self._legacy(request, peer, body, message)

    async def get(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """The stream for what belongs to no request, or the rest of a broken one (2025-11-25, Resumability)."""
        session = self._session(request, peer, headers.check_accept(request.headers, headers.EVENTS))
        if isinstance(session, Refusal):
            return refused(session)
        last = request.headers.get("Last-Event-ID")
        found = session.resumed(last)
        if found is None:
            return refused(Refusal(400, f"nothing is known of the event {str(last)[:50]!r}"))
        stream, after = found
        if last is None and stream.taken:
            return refused(Refusal(409, "a stream of the session is open already"))
        reply = self._reply(request, {SESSION: session.id}, _ok, self._timing.keep_alive)
        try:
            await session.resume(stream, after, reply)
            return await reply.wait() or web.Response(status=200)
        except ConnectionClosed:
            return await reply.wait() or web.Response(status=200)
        finally:
            session.leave(stream, reply)

    async def delete(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """End a session."""
        session = self._session(request, peer, None)
        if isinstance(session, Refusal):
            return refused(session)
        self._sessions.end(session)
        return web.Response(status=200)

    async def _modern(self, request: web.BaseRequest, peer: Peer, body: bytes, modern: ModernRequest) -> web.StreamResponse:
        if modern.tool:
            schema = await self._schema(modern.tool)
            if schema is not None and (refusal := check_params(request.headers, modern, schema)):
                return refused(refusal)
        reply = self._reply(request, {}, _status, self._timing.patience)
        return await _served(self._serve(Exchange(peer, body, reply)), reply)

    async def _alone(
        self, request: web.BaseRequest, peer: Peer, body: bytes, message: LegacyMessage, serve: Stateless
    ) -> web.StreamResponse:
        version = message.version or BATCHES
        if message.batch and version != BATCHES:
            return refused(_no_batch(version))
        if not message.ids:
            return web.Response(status=202)
        reply = self._reply(request, {}, _ok, self._timing.legacy_patience)
        exchange = Exchange(peer, body, reply, half_close=bool(message.cancels))
        none = web.Response(status=202) if message.cancels else None  # a batch may cancel all that it asks for
        return await _served(serve(exchange, version), reply, none)

    async def _legacy(self, request: web.BaseRequest, peer: Peer, body: bytes, message: LegacyMessage) -> web.StreamResponse:
        if message.initialize:
            return await self._initialize(request, peer, body, message)
        session = self._session(request, peer, None)
        if isinstance(session, Refusal):
            return refused(session, message.ids[0] if message.ids else None)
        if message.batch and session.version != BATCHES:
            return refused(_no_batch(session.version or "none"))
        if (known := session.in_use(message.ids)) is not None:
            words = f"id {known!r} is still in use by an earlier request"
            return refused(Refusal(400, words, jsonrpc.INVALID_REQUEST, known))
        try:
            if message.ids:
                return await self._asked(request, body, message, session)
            await session.push(body, message, None)
        except ConnectionClosed:
            return refused(_UNKNOWN_SESSION)
        return web.Response(status=202)

    async def _initialize(
        self, request: web.BaseRequest, peer: Peer, body: bytes, message: LegacyMessage
    ) -> web.StreamResponse:
        session = self._sessions.open(peer)
        if session is None:
            return refused(Refusal(503, "too many sessions are open. Try again later", headers={"Retry-After": "60"}))
        try:
            response = await self._asked(request, body, message, session)
        except ConnectionClosed:
            return refused(_UNKNOWN_SESSION)
        finally:
            if session.version is None:  # refused, or its client left
                self._sessions.end(session)
        if session.version is None and not response.prepared:
            response.headers.popall(SESSION, None)
        return response

    async def _asked(
        self, request: web.BaseRequest, body: bytes, message: LegacyMessage, session: HttpSession
    ) -> web.StreamResponse:
        """Hand requests to a session, and answer when it does. Raises: ConnectionClosed."""

        def reply(first: Callable[[], bytes]) -> Reply:
            return self._reply(request, {SESSION: session.id}, _ok, self._timing.legacy_patience, first)

        stream: Stream = session.open(message.ids, reply)
        waiting = stream.reply
        assert waiting is not None  # noqa: S101 - narrows the type for mypy
        try:
            await session.push(body, message, stream)
            return await waiting.wait() or _empty_stream()
        except ConnectionClosed:
            if waiting.response is None:
                raise
            return waiting.response  # it had become a stream
        finally:
            session.leave(stream, waiting)

    def _session(self, request: web.BaseRequest, peer: Peer, refusal: Refusal | None) -> HttpSession | Refusal:
        """The session that a request names."""
        if refusal := refusal or headers.check_stream(request.headers):
            return refusal
        if self._stateless is not None:
            return headers.not_allowed("POST")
        session_id = request.headers.get(SESSION)
        if session_id is None:
            hint = "This is an MCP endpoint. Send initialize first, then the header Mcp-Session-Id of its answer"
            return Refusal(400, hint, jsonrpc.INVALID_REQUEST)
        return self._sessions.get(session_id, peer.principal) or _UNKNOWN_SESSION

    def _reply(
        self,
        request: web.BaseRequest,
        fields: Mapping[str, str],
        status: Callable[[bytes], int],
        patience: float,
        first: Callable[[], bytes] = bytes,
    ) -> Reply:
        return Reply(request, fields, status, patience, first, self._timing.keep_alive)


async def read(request: web.BaseRequest, limit: int, seconds: float, take: Callable[[int], bool]) -> bytes | Refusal:
    """A request's body: at most `limit` bytes, within `seconds`, as far as `take` says that there is room for them."""
    if request.content.is_eof():  # it came with its header
        body = request.content.read_nowait()
        if len(body) > limit:
            return headers.too_large(limit)
        return body if take(len(body)) else _NO_ROOM
    chunks: list[bytes] = []
    size = 0
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # which aiohttp takes for a response that has begun
    try:
        async with asyncio.timeout(seconds):
            while chunk := await request.content.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    return headers.too_large(limit)
                if not take(len(chunk)):
                    return _NO_ROOM
    except TimeoutError:
        return Refusal(408, f"the message took longer than {seconds:g} seconds", headers={"Connection": "close"})
    return b"".join(chunks)


def refused(refusal: Refusal, known: jsonrpc.RequestId | None = None) -> web.Response:
    """The response that says why a request is refused, in JSON-RPC (2026-07-28, Streamable HTTP: without an id if unknown)."""
    if refusal.id is None and known is not None:
        body = jsonrpc.error(known, jsonrpc.INVALID_REQUEST, refusal.message)
    else:
        body = refusal.body
    response = web.Response(body=body, status=refusal.status, headers=refusal.headers, content_type="application/json")
    if refusal.status in (408, 413) or refusal is _NO_ROOM:
        response.force_close()  # rather than read what nobody wants
    return response


_NO_ROOM = Refusal(503, "too much is being sent at once. Try again", headers={"Retry-After": "1"})
_UNKNOWN_SESSION = Refusal(404, "there is no such session (any more). Send initialize again", jsonrpc.INVALID_REQUEST)


async def _served(serving: Awaitable[None], reply: Reply, none: web.Response | None = None) -> web.StreamResponse:
    """The answer of who serves; `none` where there may be none."""
    try:
        await serving
    finally:
        reply.end()
    return reply.response or none or refused(Refusal(503, "the server is stopping", headers={"Retry-After": "5"}))


def _empty_stream() -> web.Response:
    """For a request that was cancelled: it has no answer."""
    return web.Response(status=200, content_type=headers.EVENTS)


def _no_batch(version: str) -> Refusal:
    return Refusal(400, f"revision {version} has no batches: send one message", jsonrpc.INVALID_REQUEST)


def _status(frame: bytes) -> int:
    return headers.status(jsonrpc.error_code(frame))


def _ok(frame: bytes) -> int:
    return 200
