"""What a device is called in the network, and the id by which it is told from others: also from one whose card was copied."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from edge_mcp.discovery.interfaces import Interface

_SERIALS = ("proc/device-tree/serial-number", "sys/firmware/devicetree/base/serial-number")
_MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")
_MAX_FILE = 4096
_MAX_NAME = 63 - len(" (99)")  # bytes of an instance's name (RFC 6763, 4.1.1), of which others may have the same
_LAN_KINDS = ("", "veth")


def device_id(interfaces: Sequence[Interface], root: Path = Path("/")) -> str:
    """16 hexadecimal digits: the same as long as the hardware is, and another one where a card was copied to.

    From the board's serial number, where there is none from the first network interface's own address, together with the
    system's machine-id, which itself is told to nobody (machine-id(5)).
    """
    hardware = _first(root, _SERIALS) or next(
        (one.mac for one in interfaces if one.kind in _LAN_KINDS and one.mac.strip("0")), ""
    )
    secret = _first(root, _MACHINE_IDS) or "none"
    return hmac.new(secret.encode(), f"edge-mcp {hardware}".encode(), hashlib.sha256).hexdigest()[:16]


def instance_name(name: str, id_: str) -> str:
    """What the device is called, by the first label of its host name or what its owner calls it: `kitchen-3f2a`."""
    suffix = f"-{id_[:4]}"
    text = "".join(sign for sign in name.strip() if sign.isprintable()).replace(".", "-") or "edge-mcp"
    return text.encode()[: _MAX_NAME - len(suffix)].decode("utf-8", "ignore") + suffix


def _first(root: Path, files: Sequence[str]) -> str:
    for name in files:
        try:
            with (root / name).open("rb") as file:
                text = file.read(_MAX_FILE).decode("ascii", "replace").strip("\0\n\t ")
        except OSError:
            continue
        if text.strip("0"):
            return text
    return ""
