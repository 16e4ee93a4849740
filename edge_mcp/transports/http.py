"""The network listener: one port and one path (`/mcp`) for every transport that starts as HTTP."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from edge_mcp.errors import ConfigError
from edge_mcp.transports.base import MAX_MESSAGE, Peer, Serve
from edge_mcp.transports.websocket import SUBPROTOCOL, BoundedWebSocket, WebSocketConnection

logger = logging.getLogger(__name__)

PATH = "/mcp"


class HttpListener:
    """Listens on one address; see transports.base.Listener."""

    def __init__(
        self,
        host: str,
        port: int,
        roots: tuple[str, ...] = (),
        limit: int = MAX_MESSAGE,
        ready: Callable[[str], None] = lambda url: None,
    ) -> None:
        self._host = host
        self._port = port
        self._roots = roots
        self._limit = limit
        self._ready = ready
        self._names = own_names(host)

    async def listen(self, serve: Serve) -> None:
        """See Listener; calls `ready` with the URL once peers can connect."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._upgrade(request, serve)

        application = web.Application()
        application.router.add_get(PATH, handle)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            try:
                await site.start()
            except OSError as error:
                hint = "Stop what uses it, or choose another with --listen HOST:PORT"
                raise ConfigError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}", hint) from error
            self._ready(f"ws://{_bracketed(self._host)}:{runner.addresses[0][1]}{PATH}")
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()

    async def _upgrade(self, request: web.Request, serve: Serve) -> web.StreamResponse:
        response = BoundedWebSocket(self._limit)
        if refusal := self._refuse(request, response):
            return refusal
        await response.prepare(request)
        connection = WebSocketConnection(response, Peer(request.remote or "unknown", self._roots))
        try:
            await serve(connection)
        finally:
            await connection.close()
        return response

    def _refuse(self, request: web.Request, upgrade: BoundedWebSocket) -> web.Response | None:
        """Why this request gets no WebSocket, if it does not; Host and Origin are checked against DNS rebinding."""
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
        if not self._is_own(host):
            return web.Response(status=421, text=f"This server does not go by the name {host[:100]!r}.\n")
        origin = request.headers.get("Origin")
        if origin is not None and not self._same_site(urlsplit(origin).hostname or "", host):
            return web.Response(status=403, text="Pages of other sites may not use this server (Origin).\n")
        if not upgrade.can_prepare(request):
            hint = f"This is an MCP endpoint: open a WebSocket here, subprotocol {SUBPROTOCOL!r}.\n"
            return web.Response(status=426, headers={"Upgrade": "websocket", "Connection": "Upgrade"}, text=hint)
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if offered != [""] and SUBPROTOCOL not in offered:
            return web.Response(status=400, text=f"Offer the WebSocket subprotocol {SUBPROTOCOL!r}, or none.\n")
        return None

    def _same_site(self, origin: str, host: str) -> bool:
        """Whether a page from `origin` was served by this machine."""
        return origin == host or origin in self._names or is_loopback(origin)

    def _is_own(self, host: str) -> bool:
        """Whether a host name means this machine: a name of its own, or an address (which no DNS answer can turn)."""
        if host.lower().rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def own_names(listen_host: str) -> frozenset[str]:
    """The names by which this machine may be called in a Host or Origin header, in lower case."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name}.local", name.partition(".")[0] + ".local", listen_host.lower()})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
