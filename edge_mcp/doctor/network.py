"""Whether the device can be reached and found: its addresses, and who answers for names in the network (mDNS)."""

import errno
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_mcp.discovery.interfaces import Interface, interfaces, of_the_network
from edge_mcp.load.doctor import Device, Finding

MDNS = 5353
_GROUPS = ("FB0000E0", "ff0200000000000000000000000000fb")
"""224.0.0.251 and ff02::fb as /proc/net/igmp and igmp6 write them, on processors of today."""


@dataclass(frozen=True, slots=True)
class Network:
    """The interfaces (None: they cannot be read), and whether port 5353 can be shared."""

    interfaces: Sequence[Interface] | None
    shared: bool = True

    @classmethod
    def here(cls) -> "Network":
        """This machine's."""
        try:
            found: Sequence[Interface] | None = interfaces()
        except OSError:
            found = None
        return cls(found, _can_share())


def network(device: Device, net: Network) -> Iterator[Finding]:
    """What is reachable, and how it is found."""
    if net.interfaces is None:
        yield Finding("network", "note", "the interfaces cannot be read", "whether it can be reached is not known", "")
        return
    able = of_the_network(net.interfaces)
    if not able:
        do = "connect a cable or set up Wi-Fi; edge-mcp notices by itself"
        yield Finding("network", "note", "no address but this machine's own", "no other machine can reach it", do)
        return
    yield Finding("network", "ok", "; ".join(f"{one.name} {', '.join(one.addresses)}" for one in able))
    if not _routed(device):
        yield Finding("route", "ok", "none to the internet, which edge-mcp does not need")
    yield from _mdns(device, net, able)


def _mdns(device: Device, net: Network, able: Sequence[Interface]) -> Iterator[Finding]:
    who, hidden = _holders(device)
    by = ", ".join(who) or ("a program that only root can see" if hidden else "nobody")
    cost = "the device is not found by its name, only by its address"
    if not net.shared:
        do = "stop it, or have it share the port (avahi-daemon.conf: disallow-other-stacks=no)"
        yield Finding("mDNS", "problem", f"port {MDNS} is taken by {by}, which shares it with nobody", cost, do)
    elif not who and not hidden:
        do = 'start edge-mcp with mdns = true and listen = "*:8765", or install avahi-daemon'
        yield Finding("mDNS", "note", f"nobody listens on port {MDNS}", cost, do)
    elif deaf := [one.name for one in able if one.name not in _joined(device)]:
        do = "restart edge-mcp; a setting mdns_interfaces may leave it out"
        yield Finding("mDNS", "note", f"answered by {by}, but not on {', '.join(deaf)}", f"there {cost}", do)
    else:
        yield Finding("mDNS", "ok", f"answered by {by} on {', '.join(one.name for one in able)}")


def _routed(device: Device) -> bool:
    """Whether there is a default route, of IPv4 or IPv6."""
    rows = [line.split() for line in (device.text("proc/net/route") or "").splitlines()[1:]]
    rows6 = [line.split() for line in (device.text("proc/net/ipv6_route") or "").splitlines()]
    return any(row[1:2] == ["00000000"] for row in rows) or any(
        row[:2] == ["0" * 32, "00"] and row[-1:] != ["lo"] for row in rows6
    )


def _joined(device: Device) -> set[str]:
    """Interfaces on which somebody of this machine hears mDNS."""
    found, name = set(), ""
    for line in (device.text("proc/net/igmp") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 1 and words[0].isdigit():
            name = words[1]
        elif words[:1] == [_GROUPS[0]]:
            found.add(name)
    for line in (device.text("proc/net/igmp6") or "").splitlines():
        words = line.split()
        if words[2:3] == [_GROUPS[1]]:
            found.add(words[1])
    return found


def _holders(device: Device) -> tuple[list[str], bool]:
    """Who has port 5353 open, by name; and whether somebody has it who cannot be seen."""
    inodes = set()
    for table in ("udp", "udp6"):
        for line in (device.text(f"proc/net/{table}") or "").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[1].endswith(f":{MDNS:04X}"):
                inodes.add(f"socket:[{words[9]}]")
    names: set[str] = set()
    seen: set[str] = set()
    for process in (device.root / "proc").glob("[0-9]*") if inodes else ():
        if held := inodes & _open(process):
            seen |= held
            names.add((device.text(f"proc/{process.name}/comm") or process.name).strip())
    return sorted(names), bool(inodes - seen)


def _open(process: Path) -> set[str]:
    found = set()
    try:
        for descriptor in (process / "fd").iterdir():
            found.add(str(descriptor.readlink()))
    except OSError:  # another user's, or it has ended
        return found
    return found


def _can_share() -> bool:
    """Whether another program can have the port too, as all that speak mDNS have it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            trial.bind(("", MDNS))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True
