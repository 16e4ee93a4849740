"""The listeners that the settings ask for, loaded by name: what is not used is never imported."""

import importlib
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from edge_mcp.config import Config, tls_folder
from edge_mcp.errors import ConfigError
from edge_mcp.measurements import Links
from edge_mcp.server import Server
from edge_mcp.transports.base import Listener
from edge_mcp.transports.keepalive import DEFAULT, Pace, Policy

DESCRIPTION = "Small machine-learning models on a device, as MCP tools."
CARD_PREFIX = "io.github.edge-mcp"

# aiohttp alone is a third of a small device's budget.
_ADAPTERS = {
    "stdio": "edge_mcp.transports.stdio:StdioListener",
    "http": "edge_mcp.transports.http:HttpListener",
    "http options": "edge_mcp.transports.http:Options",
    "http limits": "edge_mcp.transports.http:Limits",
    "card": "edge_mcp.transports.card:Card",
    "is loopback": "edge_mcp.transports.access:is_loopback",
    "token hash": "edge_mcp.transports.access:token_hash",
    "token": "edge_mcp.tokens:find",
    "tls": "edge_mcp.transports.tls:of",
    "paired": "edge_mcp.pairing.hosts:PairedHosts",
    "pairing": "edge_mcp.pairing.device:served",
}


class Opened(NamedTuple):
    """What peers in the network can connect to: `host` as in the settings; `fingerprint` of the certificate, or nothing;
    whether they have to show a `token`, and whether they can pair."""

    host: str
    port: int
    fingerprint: str
    token: bool
    pairing: bool = False


class Listeners(NamedTuple):
    """`take_up` has the network served by other settings from now on, as far as can be without a restart (config.LIVE), and
    says what is open then; it raises ConfigError, and all stays as it was."""

    all: Sequence[Listener]
    take_up: Callable[[Config], Opened | None]


def listeners(
    config: Config,
    stdio: bool,
    network: bool,
    server: Server,
    say: Callable[[str], None],
    metrics: Callable[[], str] | None = None,
    pace: Callable[[], Pace] = Pace,
    allowed: Callable[[], str] = lambda: "full",
    links: Links | None = None,
    sockets: Sequence[socket.socket] = (),
    ready: Callable[[Opened | None], None] = lambda opened: None,
) -> Listeners:
    """The listeners for `server`; `say` tells the user where they listen, `metrics` is what `/metrics` says, `pace` what load
    and power make of keep-alive, `allowed` what load makes of compression, `links` counts connections; `sockets` are those
    of the network that listen already. `ready` is called once peers can connect, with what is open in
    the network.

    Raises: ConfigError.
    """
    chosen: list[Listener] = []
    if stdio:
        # The host that started this process could read its working directory anyway.
        chosen.append(_load("stdio")((str(Path.cwd()), *_roots(config)), config.max_message_bytes()))
    if not network:
        ready(None)
        return Listeners(chosen, lambda config: None)
    links = links or Links()
    options, opened = _served(config, server, metrics, pace, allowed, links)

    def up(url: str) -> None:
        nonlocal opened
        opened = opened._replace(port=urlsplit(url).port or opened.port)
        certificate = f"\nits certificate is {opened.fingerprint}" if opened.fingerprint else ""
        say(f"listening on {url} and {url.replace('http', 'ws', 1)}{certificate}")
        ready(opened)

    def take_up(config: Config) -> Opened:
        nonlocal opened
        options, now = _served(config, server, metrics, pace, allowed, links)
        opened = now._replace(port=opened.port)
        listener.take_up(options)
        return opened

    listener = _load("http")(opened.host, opened.port, options, up, sockets)
    chosen.append(listener)
    return Listeners(chosen, take_up)


def _served(
    config: Config,
    server: Server,
    metrics: Callable[[], str] | None,
    pace: Callable[[], Pace],
    allowed: Callable[[], str],
    links: Links,
) -> tuple[Any, Opened]:
    """What the network listener goes by, and what peers find open. Raises: ConfigError."""
    host, port = config.address()
    token = _load("token")(config.token_file)
    if not (token or config.insecure or _load("is loopback")(host)):
        raise ConfigError(
            f"{host} can be reached by others, and there is no token that they have to show",
            "Make one: edge-mcp token. Or add --insecure in a network where everybody may use this device",
        )
    limits = _load("http limits")(
        connections=config.max_connections,
        connections_per_peer=config.max_connections_per_peer,
        requests_per_s=config.max_requests_per_s,
        sessions=config.max_sessions,
        session_idle_s=config.session_idle_s,
        message=config.max_message_bytes(),
    )
    identity = _load("tls")(config.tls_certificate, config.tls_key, tls_folder()) if config.tls else None
    paired = _load("paired")()
    pair = _load("pairing")(config.name, identity.fingerprint if identity else "", paired)
    info = server.about.info
    name = re.sub(r"[^\w.-]", "-", info.name, flags=re.ASCII)
    options = _load("http options")(
        roots=_roots(config),
        hosts=config.hosts,
        token_hash=_load("token hash")(token) if token else b"",
        limits=limits,
        schema=server.input_schema,
        stateless=server.serve if config.stateless else None,
        old_sse=config.old_sse,
        tls=identity.context if identity else None,
        card=_load("card")(f"{CARD_PREFIX}/{name}", info.title or info.name, DESCRIPTION, _shown(identity)),
        is_ready=lambda: not server.draining,
        metrics=metrics,
        keepalive=Policy.within(config.keepalive_s) if config.keepalive_s else DEFAULT,
        pace=pace,
        deflate=config.deflate,
        allowed=allowed,
        links=links,
        paired=paired.who,
        pair=pair,
    )
    return options, Opened(host, port, identity.fingerprint if identity else "", bool(token), pair is not None)


def _roots(config: Config) -> tuple[str, ...]:
    return tuple(str(Path(root).absolute()) for root in config.file_roots)


def _shown(identity: Any) -> dict[str, Any]:
    """What the card says of the certificate."""
    return {"_meta": {"io.edge-mcp/certificate": identity.fingerprint}} if identity else {}


def _load(adapter: str) -> Any:
    module, _, name = _ADAPTERS[adapter].partition(":")
    return getattr(importlib.import_module(module), name)
