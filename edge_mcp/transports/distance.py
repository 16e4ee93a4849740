"""Whether what lies between a peer and this device may forget a silent connection: a proxy, or a router that translates."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from edge_mcp.protocol.headers import Fields

PROXY_FIELDS = (
    "Forwarded",  # RFC 7239
    "Via",  # RFC 9110, 7.6.3
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "CF-Connecting-IP",
)
_MAX_BYTES = 65536
_GATEWAY = 0x2  # RTF_GATEWAY, linux/route.h

Route = tuple[int, int, bool]
"""Network as a number, length of its prefix, and whether a router leads there."""


def is_far(fields: Fields, address: str, proc: Path = Path("/proc")) -> bool:
    """Whether a request with these header fields, from `address`, came over more than one link, as far as can be told."""
    return any(fields.getall(name, []) for name in PROXY_FIELDS) or not on_link(address, proc)


def on_link(address: str, proc: Path = Path("/proc")) -> bool:
    """Whether `address` is this machine's or a neighbour's by the main routing table. Unknown and unreadable: it is not."""
    with suppress(ValueError):
        known = ip_address(address)
        known = getattr(known, "ipv4_mapped", None) or known
        if known.is_loopback or known.is_link_local:
            return True
        if isinstance(known, IPv4Address):
            return _direct(known, ipv4_routes(_text(proc / "net/route")))
        return _direct(known, ipv6_routes(_text(proc / "net/ipv6_route")))
    return False


def ipv4_routes(text: str) -> Iterator[Route]:
    """The lines of `/proc/net/route`; its numbers are in the machine's byte order. Raises: ValueError."""
    for line in text.splitlines()[1:]:
        _, network, _, flags, _, _, _, mask, *_ = line.split()
        length = int(mask, 16).bit_count()
        yield int.from_bytes(bytes.fromhex(network), sys.byteorder), length, bool(int(flags, 16) & _GATEWAY)


def ipv6_routes(text: str) -> Iterator[Route]:
    """The lines of `/proc/net/ipv6_route`. Raises: ValueError."""
    for line in text.splitlines():
        network, length, _, _, gateway, *_ = line.split()
        yield int(network, 16), int(length, 16), int(gateway, 16) != 0


def _direct(address: IPv4Address | IPv6Address, routes: Iterator[Route]) -> bool:
    """Whether the most specific route has no router. A default route leads far away, even one without (a tunnel's)."""
    bits, number = address.max_prefixlen, int(address)
    matching = [(length, not router) for network, length, router in routes if (number ^ network) >> (bits - length) == 0]
    length, direct = max(matching, default=(0, False))
    return length > 0 and direct


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
