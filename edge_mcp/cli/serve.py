"""`edge-mcp serve`."""

import argparse
import asyncio
import os
from collections.abc import Mapping
from functools import partial

from edge_mcp import app
from edge_mcp.cli.logs import check_streams, ignore, log, say
from edge_mcp.cli.options import Parser
from edge_mcp.config import LOG_LEVELS, Config, load


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "serve",
        "Serve the models as MCP tools until SIGTERM or Ctrl-C, or until a stdio host is done.",
        "edge-mcp serve --listen 127.0.0.1:8765",
    )
    parser.add_argument("--stdio", action="store_true", help="serve the host that started this process")
    parser.add_argument("--listen", metavar="HOST:PORT", help="serve HTTP and WebSockets here; without --stdio by default")
    parser.add_models()
    parser.add_argument("--file-root", metavar="DIR", action="append", help="folder whose files any peer may name")
    parser.add_argument("--sensor", metavar="NAME=URL", action="append", help="a camera or microphone that peers may read")
    parser.add_argument("--sensor-consent", metavar="WHEN", help="whose user has to agree first: ask, required or never")
    parser.add_argument("--sensor-timeout-s", metavar="N", type=int, help="how long a sensor may take")
    parser.add_argument("--lanes", metavar="N", type=int, help="runs at once (default: one for each processor, at most four)")
    parser.add_argument("--keep-loaded-s", metavar="N", type=int, help="seconds until an unused model is unloaded")
    parser.add_argument("--memory-mb", metavar="N", type=int, help="what all models and their engines may take, in MiB")
    parser.add_argument("--preload", metavar="MODEL", action="append", help="load this model at the start, and keep it")
    parser.add_argument("--insecure", action="store_const", const=True, help="listen beyond this machine, for anybody there")
    parser.add_argument("--token-file", metavar="FILE", help="the token that peers have to show (see edge-mcp token)")
    parser.add_argument("--tls", action="store_const", const=True, help="speak TLS: https and wss")
    parser.add_argument("--tls-certificate", metavar="FILE", help="the certificate to show (default: one made at first use)")
    parser.add_argument("--tls-key", metavar="FILE", help="the key of that certificate")
    parser.add_argument("--host-name", metavar="NAME", action="append", help="a name that peers may call this machine by")
    parser.add_argument("--name", metavar="NAME", help="what this device is called in the network (default: its host name)")
    parser.add_argument("--no-mdns", dest="mdns", action="store_const", const=False, help="do not advertise it there")
    parser.add_argument("--mdns-interface", metavar="NAME", action="append", help="advertise it on this network interface")
    parser.add_argument("--stateless", action="store_const", const=True, help="no HTTP sessions for older clients")
    parser.add_argument("--old-sse", action="store_const", const=True, help="serve HTTP+SSE of 2024-11-05 too, at /sse")
    parser.add_argument("--max-connections", metavar="N", type=int, help="connections at once")
    parser.add_argument("--max-connections-per-peer", metavar="N", type=int, help="of these, from one address")
    parser.add_argument("--max-requests-per-s", metavar="N", type=int, help="requests from one address in a second")
    parser.add_argument("--max-sessions", metavar="N", type=int, help="HTTP sessions of older clients")
    parser.add_argument("--session-idle-s", metavar="N", type=int, help="seconds until an unused HTTP session ends")
    parser.add_argument("--keepalive-s", metavar="N", type=int, help="the longest silence until a WebSocket peer is pinged")
    parser.add_argument("--exit-idle-s", metavar="N", type=int, help="seconds without a peer until it ends (systemd's socket)")
    parser.add_argument("--no-deflate", dest="deflate", action="store_const", const=False, help="compress no messages")
    parser.add_argument("--max-message-mb", metavar="N", type=int, help="the largest message a peer may send, in MiB")
    parser.add_argument("--log-level", metavar="LEVEL", choices=LOG_LEVELS, help=f"one of {', '.join(LOG_LEVELS)}")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop. Raises: EdgeError."""
    reread = partial(settings, options, dict(os.environ))  # before `log` puts something there
    config = reread()
    if options.stdio:
        check_streams()
    log(config.log_level)
    network = options.listen is not None or not options.stdio
    chatty = config.log_level in ("debug", "info")
    asyncio.run(app.serve(config, options.stdio, network, say if chatty else ignore, reread))
    return 0


def settings(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Config:
    """The settings that flags, environment and file make together. Raises: ConfigError."""
    flags = {
        "models": options.models,
        "listen": options.listen,
        "insecure": options.insecure,
        "token_file": options.token_file,
        "tls": options.tls,
        "tls_certificate": options.tls_certificate,
        "tls_key": options.tls_key,
        "hosts": options.host_name,
        "name": options.name,
        "mdns": options.mdns,
        "mdns_interfaces": options.mdns_interface,
        "stateless": options.stateless,
        "old_sse": options.old_sse,
        "max_connections": options.max_connections,
        "max_connections_per_peer": options.max_connections_per_peer,
        "max_requests_per_s": options.max_requests_per_s,
        "max_sessions": options.max_sessions,
        "session_idle_s": options.session_idle_s,
        "keepalive_s": options.keepalive_s,
        "exit_idle_s": options.exit_idle_s,
        "deflate": options.deflate,
        "file_roots": options.file_root,
        "sensors": options.sensor,
        "sensor_consent": options.sensor_consent,
        "sensor_timeout_s": options.sensor_timeout_s,
        "lanes": options.lanes,
        "keep_loaded_s": options.keep_loaded_s,
        "memory_mb": options.memory_mb,
        "preload": options.preload,
        "max_message_mb": options.max_message_mb,
        "log_level": "debug" if options.debug else options.log_level,
    }
    return load(options.config, flags, environment)
