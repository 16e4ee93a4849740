"""`edge-mcp connect`."""

import argparse
import asyncio
import contextlib
import signal
import sys

from edge_mcp.cli.gateway import add_devices, serve
from edge_mcp.cli.logs import log
from edge_mcp.cli.options import Parser
from edge_mcp.cli.remote import dialling
from edge_mcp.cli.render import printable
from edge_mcp.client.bridge import Bridge
from edge_mcp.client.bridge_device import Device
from edge_mcp.config import load
from edge_mcp.errors import ConfigError


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "connect",
        "Let a host that only speaks stdio use a device on the network: put this command into the host's configuration.",
        "edge-mcp connect ws://raspberrypi.local:8765/mcp --token-file token",
    )
    parser.add_argument(
        "url", metavar="DEVICE", nargs="?", default="", help="its name, or its URL such as ws://raspberrypi.local:8765/mcp"
    )
    parser.add_argument("--token-file", metavar="FILE", default="", help="the token that the device asks for")
    parser.add_argument("--fingerprint", metavar="SHA256", default="", help="the certificate that a wss:// device has to show")
    parser.add_argument("--http", metavar="PORT", type=port, help="serve hosts over HTTP on this machine instead of stdio")
    parser.add_argument("--all", action="store_true", help="all devices as one, as edge-mcp gateway has them")
    add_devices(parser)
    parser.add_debug()
    return parser


def port(text: str) -> int:
    """A port's number. Raises: argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port. Write a number up to 65535, or 0 for any that is free")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Pass messages on until the host is done. Raises: EdgeError."""
    if options.debug:
        import logging

        logging.basicConfig(level="DEBUG")
    if options.all:
        return _all(options)
    if not options.url:
        raise ConfigError("no device is named", "Write its name or its URL, or --all for all devices as one")
    if options.device or options.unknown or options.device_token_file:
        raise ConfigError("--device, --unknown and --device-token-file go with --all", "Name one device, or --all")
    asyncio.run(_connect(options))
    return 0


def _all(options: argparse.Namespace) -> int:
    """Serve all devices as one. Raises: EdgeError."""
    if options.url or options.token_file or options.fingerprint:
        raise ConfigError("--all goes with no device, token or fingerprint", "Name devices by --device")
    listen = {} if options.http is None else {"listen": f"127.0.0.1:{options.http}"}
    level = "debug" if options.debug else "warning"
    log(level)
    asyncio.run(
        serve(options, load(None, {**listen, "log_level": level}), options.http is None, options.http is not None, _say)
    )
    return 0


async def _connect(options: argparse.Namespace) -> None:
    """Until the host is done, or SIGTERM."""
    device = Device(dialling(options.url, options.token_file, options.fingerprint, _say), _say)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stopped = asyncio.create_task(stop.wait())
    serving = asyncio.create_task(_stdio(device) if options.http is None else _http(device, options.http))
    try:
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        for task in (serving, stopped):
            task.cancel()
        await asyncio.gather(serving, stopped, return_exceptions=True)
        await device.close()


async def _stdio(device: Device) -> None:
    from edge_mcp.transports.stdio import StdioListener

    await StdioListener(()).listen(Bridge(device).serve)


async def _http(device: Device, port: int) -> None:
    from edge_mcp.transports.http import HttpListener

    bridge = Bridge(device)
    await HttpListener("127.0.0.1", port, ready=lambda url: _say(f"listening on {url}")).listen(bridge.serve)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody has to listen
        print(f"edge-mcp: {printable(line)}", file=sys.stderr, flush=True)
