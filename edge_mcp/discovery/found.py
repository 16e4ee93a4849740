"""A device that was found, and what may be a name and an address of one. Pure, but for the names of interfaces."""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_mcp.discovery.advert import SERVICE, Advert
from edge_mcp.discovery.interfaces import Network

_MAX_NAME = 63  # RFC 6763, 4.1.1


@dataclass(frozen=True, slots=True)
class Found:
    """A device as it is advertised: `name` as shown and typed, `id` of the hardware, `addresses` (best first; IPv6 link-local
    ones with their interface) and the `port` where it says it is."""

    name: str
    id: str
    advert: Advert
    addresses: tuple[str, ...]
    port: int

    @property
    def url(self) -> str:
        """For a WebSocket, at the best address."""
        host = f"[{self.addresses[0]}]" if ":" in self.addresses[0] else self.addresses[0]
        return f"{'wss' if self.advert.tls else 'ws'}://{host}:{self.port}{self.advert.path}"

    def at(self, address: str) -> "Found":
        """The same device with this address as the best one."""
        return replace(self, addresses=(address, *(other for other in self.addresses if other != address)))


def instance(full: str) -> str:
    """The name of an instance of SERVICE; empty for what is none, or none that a person could type."""
    name = full[: -len(SERVICE) - 1]
    whole = f"{name}.{SERVICE}".lower() == full.lower()
    return name if whole and name.isprintable() and name == name.strip() and len(name.encode()) <= _MAX_NAME else ""


def ranked(packed: bytes, scope: int | None, networks: Sequence[Network] = ()) -> tuple[int, str] | None:
    """An address, and how good it is, from 0; None for one where no device of the LAN can be.

    Anybody in the network may have this machine knock wherever an advert says: a public address, or an IPv4 link-local one,
    counts only in one of the `networks` that this machine is in itself. (IPv6 link-local ones cannot lead out of it.)
    """
    try:
        ip = ipaddress.ip_address(packed)
    except ValueError:
        return None
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and ip.version == 4):
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        return None  # it has an address of its own, if it is not this machine's
    if ip.is_link_local and ip.version == 6:
        name = _interface(scope)
        return (4, f"{ip}%{name}") if name else None
    if (ip.is_link_local or not ip.is_private) and not any(ip in network for network in networks):
        return None
    if ip.is_link_local:
        return 5, str(ip)
    return (0 if ip.is_private else 2) + (ip.version == 6), str(ip)


def _interface(scope: int | None) -> str:
    if not scope:
        return ""
    try:
        return socket.if_indextoname(scope)
    except OSError:
        return ""
