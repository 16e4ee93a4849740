"""`edge-mcp pair`."""

import argparse
import asyncio
import socket
import sys

from edge_mcp.cli.options import Parser
from edge_mcp.client.known import Known, KnownDevices, address_key
from edge_mcp.client.resolve import find, is_name
from edge_mcp.discovery.identity import instance_name
from edge_mcp.errors import ConfigError
from edge_mcp.pairing import host, opening
from edge_mcp.pairing.device import own_id


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "pair",
        "Let a device and this machine know each other. On the device: show six digits, for two minutes and one host. "
        "Then here, with the device's name or address: type them.",
        "edge-mcp pair kitchen-3f2a",
    )
    parser.add_argument("device", nargs="?", help="its name or address; left out on the device itself")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Open this device for pairing, or pair with another. Raises: EdgeError."""
    if host.importable() is None:
        raise ConfigError("pairing needs the package spake2", "pip install 'edge-mcp[pair]'")
    if options.device is None:
        opened = opening.open_pairing(opening.own_file(), opening.now_s())
        print(f"{opened.pin[:3]} {opened.pin[3:]}")
        print(
            f"Type these digits within {opening.OPEN_S // 60} minutes on the other machine: edge-mcp pair NAME", file=sys.stderr
        )
        return 0
    devices = KnownDevices()
    url = asyncio.run(find(options.device, devices)).url if is_name(options.device) else options.device
    id_ = own_id()
    device = host.pair(url, id_, instance_name(socket.gethostname().partition(".")[0], id_), _digits)
    devices.remember(Known(device.id, device.name, device.fingerprint, device.token))
    if not is_name(options.device):  # it may be called by its address again
        devices.remember(Known("", device.name, device.fingerprint, device.token, address_key(url)))
    certificate = f"; its certificate is sha256:{device.fingerprint}" if device.fingerprint else ", without TLS"
    print(f"paired with {device.name} ({device.id}){certificate}")
    return 0


def _digits(name: str) -> str:
    """Ask the person. Raises: ConfigError."""
    print(f"Digits that {name} shows: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline(100)
    if not line:
        raise ConfigError("no digits were typed", "Type those that the device shows")
    return line.strip()
