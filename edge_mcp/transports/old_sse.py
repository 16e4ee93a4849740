"""HTTP+SSE of 2024-11-05: a stream for the answers at `/sse`, and a URL to post messages to. For old hosts."""

import secrets
from collections.abc import AsyncIterator

from aiohttp import web

from edge_mcp.errors import ConnectionClosed
from edge_mcp.protocol import headers
from edge_mcp.protocol.headers import Refusal
from edge_mcp.transports.base import Frame, Peer, Serve
from edge_mcp.transports.inbox import Inbox
from edge_mcp.transports.limits import ByteBudget
from edge_mcp.transports.sse import KEEP_ALIVE_S, Reply, event
from edge_mcp.transports.streamable import read, refused

STREAM, MESSAGES = "/sse", "/messages"
_ROOM = 1  # messages that wait to be read
_UNKNOWN_STREAM = Refusal(404, "there is no such stream (any more)")


class OldConnection:
    """One client; see transports.base.Connection. It ends with its stream."""

    encoding = "json"
    half_close = False

    def __init__(self, peer: Peer, reply: Reply) -> None:
        self.peer = peer
        self._reply = reply
        self._incoming: Inbox[bytes] = Inbox(_ROOM)

    async def push(self, frame: bytes) -> None:
        """Take a message, once there is room for it. Raises: ConnectionClosed."""
        await self._incoming.put(frame)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        while not self._reply.over and (frame := await self._incoming.get()) is not None:
            yield frame

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        await self._reply.send(frame)

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        self._reply.end()
        self._incoming.close()


class OldEndpoint:
    """Answers requests to the two paths that are let in already."""

    def __init__(
        self,
        serve: Serve,
        connections: int,
        limit: int,
        budget: ByteBudget,
        seconds: float,
        keep_alive: float = KEEP_ALIVE_S,
    ) -> None:
        self._serve = serve
        self._budget = budget
        self._most = connections
        self._limit = limit
        self._seconds = seconds
        self._keep_alive = keep_alive
        self._connections: dict[str, OldConnection] = {}

    async def get(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """The stream, which begins with where to post."""
        if refusal := headers.check_accept(request.headers, headers.EVENTS):
            return refused(refusal)
        if len(self._connections) >= self._most:
            return refused(Refusal(503, "too many streams are open. Try again later", headers={"Retry-After": "60"}))
        known = secrets.token_urlsafe(24)
        first = event(f"{MESSAGES}?session_id={known}".encode(), kind=b"endpoint")
        reply = Reply(request, {}, lambda _: 200, self._keep_alive, lambda: first, self._keep_alive)
        connection = self._connections[known] = OldConnection(peer, reply)
        try:
            await reply.begin()
            await self._serve(connection)
        except ConnectionClosed:
            pass  # before it had begun
        finally:
            del self._connections[known]
            await connection.close()
        return reply.response or web.Response()

    async def post(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        """A message, which is answered on the stream."""
        connection = self._connections.get(request.rel_url.query.get("session_id", ""))
        if connection is None or connection.peer.principal != peer.principal:
            return refused(_UNKNOWN_STREAM)
        with self._budget.lease(peer.address) as take:
            body = await read(request, self._limit, self._seconds, take)
            if isinstance(body, Refusal):
                return refused(body)
            try:
                await connection.push(body)
            except ConnectionClosed:
                return refused(_UNKNOWN_STREAM)
        return web.Response(status=202, text="Accepted")
