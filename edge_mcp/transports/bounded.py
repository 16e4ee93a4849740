"""aiohttp's server with bounds on connections, in number and in time."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from edge_mcp.transports.limits import ConnectionLimit
from edge_mcp.transports.tls import MAX_HANDSHAKES, MAX_HANDSHAKES_PER_PEER, Entrance

IDLE_CONNECTION_S = 75
"""For the next request's header to be complete, from the connection's begin or the end of the request before."""
UNACKNOWLEDGED_MS = 60_000
"""A peer that takes nothing of what it was sent for so long is gone."""

# aiohttp logs a traceback for whatever a peer gets wrong: what is worth a line is logged here.
_parser_logger = logging.getLogger("edge_mcp.transports.http.parser")
_parser_logger.setLevel(logging.CRITICAL)

_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 10\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n"
    b"Connection: close\r\n\r\ntoo many connections.\n"
)


class BoundedServer(web.Server):
    """A connection beyond the limit is told so and closed. A handler whose client leaves is cancelled."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limit: ConnectionLimit,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            keepalive_timeout=IDLE_CONNECTION_S,
            access_log=None,
            logger=_parser_logger,
            auto_decompress=False,
            lingering_time=2.0,
        )
        self._limit = limit
        self.tls = tls
        self._handshakes = ConnectionLimit(MAX_HANDSHAKES, MAX_HANDSHAKES_PER_PEER)
        self._addresses: dict[RequestHandler, str] = {}
        self._stopped = False

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override] # which becomes one
        """See aiohttp."""
        handler = super().__call__()
        return handler if self.tls is None else Entrance(handler, self.tls, self._handshakes)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """See aiohttp."""
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        address = self._addresses[handler] = str(peer[0]) if peer else ""
        allowed = self._limit.enter(address)
        if self._stopped:  # it was shaking hands meanwhile
            transport.abort()
            return
        if not allowed:
            transport.write(_FULL)
            transport.close()
            return
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """See aiohttp."""
        super().connection_lost(handler, exc)
        if (address := self._addresses.pop(handler, None)) is not None:
            self._limit.leave(address)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's
        """See aiohttp."""
        self._stopped = True
        await super().shutdown(timeout)

    def hand_over(self, handler: RequestHandler) -> tuple[asyncio.Transport, bytes, Callable[[], None]]:
        """Have aiohttp forget a connection that goes on as something else. It goes on being counted: call what is returned at
        its end. The bytes are those that came behind the request. Raises: ConnectionResetError."""
        transport = handler.transport
        if transport is None or transport.is_closing():  # TLS may have told aiohttp's handler already, and tells nobody else
            raise ConnectionResetError("the peer has left")
        rest = _Rest()
        handler.set_parser(cast(Any, rest))  # who upgrades gets at these bytes so
        address = self._addresses.pop(handler)
        handler.transport = None
        handler.connection_lost(None)
        return transport, bytes(rest.data), partial(self._limit.leave, address)


class _Rest:
    """Takes the bytes that came behind a request."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """There are no more."""
