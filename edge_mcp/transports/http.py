"""The network listener: one port and one path (`/mcp`) for every transport that starts as HTTP."""

import asyncio
import logging
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from edge_mcp.errors import ConfigError
from edge_mcp.measurements import Links
from edge_mcp.protocol import headers
from edge_mcp.protocol.headers import Refusal
from edge_mcp.transports import card as about
from edge_mcp.transports.access import Access, is_loopback, unauthorized
from edge_mcp.transports.base import MAX_MESSAGE, Peer, Serve
from edge_mcp.transports.bounded import BoundedServer
from edge_mcp.transports.deflate import FULL
from edge_mcp.transports.keepalive import DEFAULT, Pace, Policy
from edge_mcp.transports.limits import ConnectionLimit, RateLimit
from edge_mcp.transports.old_sse import MESSAGES, STREAM, OldEndpoint
from edge_mcp.transports.sessions import IDLE_S, Sessions
from edge_mcp.transports.sse import SERVER
from edge_mcp.transports.streamable import Endpoint, Schema, Stateless, Timing, no_schema, read, refused
from edge_mcp.transports.upgrade import Sockets
from edge_mcp.transports.websocket import Shared
from edge_mcp.transports.wheel import Wheel

logger = logging.getLogger(__name__)
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)  # or any peer could have a line written with what it offers

PATH = "/mcp"
EVERYWHERE = "*"
METHODS = "GET, POST, DELETE"
SHUTDOWN_S = 0.5
NETWORK_RATE = 1000
PAIR_BYTES, PAIR_S = 4096, 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What all peers together, and each of them, may have. `requests_per_s`: 0 is `NETWORK_RATE` for peers of the network and
    no limit for programs on this machine, which could load it in other ways."""

    connections: int = 256
    connections_per_peer: int = 128
    requests_per_s: int = 0
    sessions: int = 64
    session_idle_s: float = IDLE_S
    message: int = MAX_MESSAGE


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. `card` is what the server says of itself to who looks for one, `is_ready` whether it can take calls;
    `schema` and `stateless` are those of streamable.Endpoint; `metrics` is what `/metrics` says; `keepalive` and `pace` are
    those of wheel.Wheel; `deflate`: WebSockets may be compressed, as far as `allowed` says (websocket.Shared); `links` are
    counted; `paired` is that of Access; `pair` answers what an address posts to `/pair`, with a status and JSON."""

    roots: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    token_hash: bytes = b""
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    schema: Schema = no_schema
    stateless: Stateless | None = None
    old_sse: bool = False
    card: about.Card | None = None
    is_ready: Callable[[], bool] = lambda: True
    metrics: Callable[[], str] | None = None
    tls: ssl.SSLContext | None = None
    keepalive: Policy = DEFAULT
    pace: Callable[[], Pace] = Pace
    deflate: bool = True
    allowed: Callable[[], str] = lambda: FULL
    links: Links = field(default_factory=Links)
    paired: Callable[[bytes], str | None] = lambda token_hash: None
    pair: Callable[[bytes, str], Awaitable[tuple[int, bytes]]] | None = None


class HttpListener:
    """Listens on one address (`*`: all that this machine has, of both families); see transports.base.Listener.

    Or on `sockets` that listen already: then `host` and `port` only say what they are called.
    """

    def __init__(
        self,
        host: str,
        port: int,
        options: Options = Options(),
        ready: Callable[[str], None] = lambda url: None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._options = options
        self._opened = sockets
        self._ready = ready
        self.take_up: Callable[[Options], None] = lambda options: None
        """Serve by other options from now on: who may come, as whom, with which certificate, and how often. Connections that
        are there stay as they are."""

    async def listen(self, serve: Serve) -> None:
        """See Listener; calls `ready` with the URL once peers can connect."""
        options, limits = self._options, self._options.limits
        sessions = Sessions(serve, limits.sessions, limits.session_idle_s)
        endpoint = Endpoint(serve, sessions, limits.message, options.schema, options.stateless, options.timing)
        old = OldEndpoint(
            serve, limits.sessions, limits.message, endpoint.budget, options.timing.body, options.timing.keep_alive
        )
        wheel = Wheel(options.keepalive, options.pace)
        rate = _Rate(limits.requests_per_s)
        shared = Shared(wheel, limits.message, rate.take, endpoint.budget, options.allowed, options.links)
        sockets = Sockets(serve, shared, options.deflate)
        gate = _Gate(self._host, options, endpoint, old, sockets, rate)
        connections = ConnectionLimit(limits.connections, limits.connections_per_peer)
        gate.server = server = BoundedServer(gate.handle, connections, options.tls)
        options.links.count, options.links.shared = connections.__len__, lambda: shared.compressors.held

        def take_up(options: Options) -> None:
            limits = options.limits
            gate.take_up(options)
            connections.most, connections.most_per_peer = limits.connections, limits.connections_per_peer
            sessions.limit, sessions.idle = limits.sessions, limits.session_idle_s
            sockets.deflate = options.deflate
            rate.set(limits.requests_per_s)
            wheel.policy = options.keepalive
            server.tls = options.tls

        self.take_up = take_up
        runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            try:
                for site in self._sites(runner):
                    await site.start()
            except OSError as error:
                hint = "Stop what uses it, or choose another with --listen HOST:PORT"
                raise ConfigError(f"cannot listen on {self._host}:{self._port}: {_reason(error)}", hint) from error
            self._ready(f"{'https' if options.tls else 'http'}://{_bracketed(self._host)}:{runner.addresses[0][1]}{PATH}")
            await asyncio.get_running_loop().create_future()
        finally:
            await sessions.close()
            await runner.cleanup()
            await sockets.close()
            wheel.close()

    def _sites(self, runner: web.ServerRunner) -> Sequence[web.BaseSite]:
        if self._opened:
            return [web.SockSite(runner, opened) for opened in self._opened]
        return [web.TCPSite(runner, None if self._host == EVERYWHERE else self._host, self._port)]


class _Rate:
    """How many requests and messages an address may send: see Limits."""

    def __init__(self, per_second: int) -> None:
        self.set(per_second)

    def set(self, per_second: int) -> None:
        """Another limit from now on."""
        self._limit = RateLimit(per_second or NETWORK_RATE, asyncio.get_running_loop().time)
        self._local_too = per_second > 0

    def take(self, address: str) -> float:
        """Count one; the seconds until it would be within the limit."""
        return self._limit.take(address) if self._local_too or not is_loopback(address) else 0.0


class _Gate:
    """Every request passes here: limits, access, and then the route."""

    server: BoundedServer | None = None

    def __init__(
        self, host: str, options: Options, endpoint: Endpoint, old: OldEndpoint, sockets: Sockets, rate: _Rate
    ) -> None:
        self._host = host
        self._endpoint = endpoint
        self._old = old
        self._sockets = sockets
        self._rate = rate
        self.take_up(options)

    def take_up(self, options: Options) -> None:
        """See HttpListener."""
        self._options = options
        self._access = Access(self._host, options.hosts, options.token_hash, options.paired)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request."""
        try:
            response = await self._routed(request)
        except ConnectionError:
            raise  # the peer is gone
        except Exception:
            logger.exception("a request failed unexpectedly")
            response = refused(Refusal(500, "internal error"))
        if not response.prepared:
            response.headers["Server"] = SERVER
        return response

    async def _routed(self, request: web.BaseRequest) -> web.StreamResponse:
        address = request.remote or "unknown"
        if wait := self._rate.take(address):
            return refused(_too_many(wait))
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            return refused(_EXPECTATION)
        path = request.rel_url.path
        if path == PATH:
            return await self._mcp(request, address)
        if self._options.old_sse and path in (STREAM, MESSAGES):
            return await self._old_sse(request, address, path)
        if path == "/metrics" and self._options.metrics is not None:
            peer = self._admitted(request, address, "GET, HEAD")
            return refused(peer) if isinstance(peer, Refusal) else about.metrics(self._options.metrics())
        if path == "/pair" and self._options.pair is not None:
            return await self._pair(request, address)
        public = self._public(request, path)
        return public or web.Response(status=404, text="There is nothing here. MCP is at /mcp\n")

    def _public(self, request: web.BaseRequest, path: str) -> web.Response | None:
        """What needs no token, and tells nothing secret."""
        options = self._options
        if path == "/health":
            return about.health(request, options.is_ready())
        if path == f"{PATH}/server-card" and options.card is not None:
            refusal = self._access.check_site(_without_origin(request))  # any page may read it
            return refused(refusal) if refusal else options.card.respond(request, PATH)
        return None

    async def _mcp(self, request: web.BaseRequest, address: str) -> web.StreamResponse:
        peer = self._admitted(request, address, METHODS)
        if isinstance(peer, Refusal):
            return refused(peer)
        match request.method:
            case "POST":
                return await self._endpoint.post(request, peer)
            case "DELETE":
                return await self._endpoint.delete(request, peer)
            case _ if "upgrade" in request.headers.get("Connection", "").lower():
                return self._upgrade(request, peer)
            case _:
                return await self._endpoint.get(request, peer)

    async def _old_sse(self, request: web.BaseRequest, address: str, path: str) -> web.StreamResponse:
        peer = self._admitted(request, address, "GET" if path == STREAM else "POST")
        if isinstance(peer, Refusal):
            return refused(peer)
        return await (self._old.get if path == STREAM else self._old.post)(request, peer)

    async def _pair(self, request: web.BaseRequest, address: str) -> web.Response:
        """Needs no token: it is how a host gets one. Whoever comes through a proxy may be anywhere."""
        assert self._options.pair is not None  # noqa: S101 - narrows the type for mypy
        fields = request.headers
        refusal = headers.not_allowed("POST") if request.method != "POST" else headers.check_content(fields, PAIR_BYTES)
        refusal = refusal or self._access.check_site(fields)
        if refusal is None and any(name in fields for name in _PROXIED):
            refusal = Refusal(403, "pairing goes through no proxy")
        body = refusal or await read(request, PAIR_BYTES, PAIR_S, lambda size: True)
        if isinstance(body, Refusal):
            return refused(body)
        status, said = await self._options.pair(body, address)
        return web.Response(status=status, body=said, content_type="application/json", headers={"Cache-Control": "no-store"})

    def _admitted(self, request: web.BaseRequest, address: str, methods: str) -> Peer | Refusal:
        """Who asks, if they may: the first steps of the ladder, which need no body."""
        principal = self._access.principal(request.headers)
        if principal is None:
            return unauthorized()
        refusal = None
        if request.method == "POST":
            refusal = headers.check_content(request.headers, self._options.limits.message)
        refusal = refusal or self._access.check_site(request.headers)
        if refusal is None and request.method not in methods.split(", "):
            refusal = headers.not_allowed(methods)
        return refusal or Peer(address, self._options.roots, principal)

    def _upgrade(self, request: web.BaseRequest, peer: Peer) -> web.StreamResponse:
        assert self.server is not None  # noqa: S101 - narrows the type for mypy
        refusal = self._sockets.upgrade(request, peer, self.server)
        return refused(refusal) if refusal else web.Response()  # which goes nowhere: aiohttp has let the connection go


_PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_EXPECTATION = Refusal(417, "the only expectation that can be met is 100-continue", headers={"Connection": "close"})


def _without_origin(request: web.BaseRequest) -> headers.Fields:
    fields = request.headers.copy()
    fields.popall("Origin", None)
    return fields


def _too_many(wait: float) -> Refusal:
    seconds = str(math.ceil(wait))
    return Refusal(429, f"too many requests. Try again in {seconds} s", headers={"Retry-After": seconds})


def _reason(error: OSError) -> str:
    """Why an address cannot be had, without the address, which asyncio puts into `strerror`."""
    code = error.errno or 0  # below 0 is that of a name that cannot be resolved
    return os.strerror(code) if code > 0 else error.strerror or str(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
