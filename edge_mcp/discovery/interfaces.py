"""The interfaces and addresses of this machine, and when they change: rtnetlink(7), in the few messages that this takes.

Not from /sys, which a process in a network namespace may see of another one.
"""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SETTLE_S = 2.0
"""Changes come in swarms: so long after the last one they are told, as one."""
_RECEIVE = 65536
_GETLINK, _GETADDR, _NEWLINK, _NEWADDR = 18, 22, 16, 20
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_GROUPS = 0x1 | 0x10 | 0x100  # links, addresses of both families
_UP, _LOOPBACK, _POINT_TO_POINT, _RUNNING, _MULTICAST = 0x1, 0x8, 0x10, 0x40, 0x1000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_PERM_ADDRESS = 1, 3, 10, 18, 54
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_TEMPORARY, _DEPRECATED, _TENTATIVE = 0x01, 0x20, 0x40
# What carries the network that a device is in; all else is made by programs: tunnels, and networks of containers.
_CARRIERS = frozenset({"", "veth", "vlan", "bond", "team", "macvlan", "ipvlan"})


@dataclass(frozen=True, slots=True)
class Interface:
    """`kind` is what made it (`veth`, `bridge`, `tun` …), empty for hardware; `mac` its own address, in hexadecimal; `master`
    the index of the bridge or bond that it is a part of, or 0. `addresses` are those that stay, as text."""

    index: int
    name: str
    flags: int = 0
    kind: str = ""
    mac: str = ""
    master: int = 0
    addresses: tuple[str, ...] = ()


def of_the_network(interfaces: Sequence[Interface], named: Iterable[str] = ()) -> list[Interface]:
    """Those that a device is advertised on: the `named` ones, or all that carry a network.

    Left out are loopback and what is down, tunnels (VPNs), and bridges of containers: those that no hardware is a part of.
    """
    if wanted := set(named):
        return [one for one in interfaces if one.name in wanted and one.addresses]
    up = _UP | _RUNNING | _MULTICAST
    able = [
        one for one in interfaces if one.addresses and one.flags & up == up and not one.flags & (_LOOPBACK | _POINT_TO_POINT)
    ]
    parts = {one.master for one in interfaces if one.kind != "veth" and one.kind in _CARRIERS}
    return [one for one in able if not one.master and (one.kind in _CARRIERS or (one.kind == "bridge" and one.index in parts))]


def interfaces() -> list[Interface]:
    """Those of this machine, in the kernel's order. Raises: OSError."""
    links = {one.index: one for one in _links(_dumped(_GETLINK))}
    addresses: dict[int, list[str]] = {}
    for index, address in _addresses(_dumped(_GETADDR)):
        addresses.setdefault(index, []).append(address)
    return [
        Interface(one.index, one.name, one.flags, one.kind, one.mac, one.master, tuple(addresses.get(one.index, ())))
        for one in links.values()
    ]


def networks() -> list[Network]:
    """Those that this machine has an address in, without point-to-point ones. Raises: OSError."""
    return [
        ipaddress.ip_network((packed, length), strict=False)
        for type_, body in _dumped(_GETADDR)
        if type_ == _NEWADDR and len(body) >= 8
        for packed, length in [(attributes(body[8:]).get(_IFA_ADDRESS, b""), body[1])]
        if len(packed) in (4, 16) and length <= 8 * len(packed)
    ]


class Changes:
    """Calls `changed` some time after interfaces or addresses have changed, within an `async with`-less life: `close` ends it.

    Raises: OSError where the kernel does not tell.
    """

    def __init__(self, changed: Callable[[], None], settle_s: float = SETTLE_S) -> None:
        self._changed = changed
        self._settle_s = settle_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._heard)

    def close(self) -> None:
        """Tell nothing any more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._timer is not None:
            self._timer.cancel()

    def _heard(self) -> None:
        try:
            self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more than fitted: then something has changed for certain
                raise
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._settle_s, self._changed)


# Messages


def _dumped(kind: int) -> Iterator[tuple[int, bytes]]:
    """All messages that answer a request for everything of one kind. Raises: OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as asking:
        asking.settimeout(5)
        asking.bind((0, 0))
        request = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
        asking.send(struct.pack("=IHHII", 16 + len(request), kind, _REQUEST_DUMP, 1, 0) + request)
        while True:
            for type_, body in messages(asking.recv(_RECEIVE)):
                if type_ == _DONE:
                    return
                if type_ == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    raise OSError(code, os.strerror(code))
                yield type_, body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The netlink messages in what was received: type and body (netlink(7))."""
    while len(data) >= 16:
        length, type_ = struct.unpack_from("=IH", data)
        if not 16 <= length <= len(data):
            return
        yield type_, data[16:length]
        data = data[(length + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by their type (rtnetlink(7))."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, type_ = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found[type_ & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _links(told: Iterable[tuple[int, bytes]]) -> Iterator[Interface]:
    for type_, body in told:
        if type_ != _NEWLINK or len(body) < 16:
            continue
        index, flags = struct.unpack_from("=iI", body, 4)
        about = attributes(body[16:])
        kind = attributes(about.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
        mac = about.get(_IFLA_PERM_ADDRESS) or about.get(_IFLA_ADDRESS, b"")
        master = int.from_bytes(about.get(_IFLA_MASTER, b""), "little" if struct.pack("=H", 1)[0] else "big")
        yield Interface(index, _text(about.get(_IFLA_IFNAME, b"")), flags, _text(kind), mac.hex(), master)


def _addresses(told: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
    for type_, body in told:
        if type_ != _NEWADDR or len(body) < 8:
            continue
        family, _, flags, _, index = struct.unpack_from("=BBBBI", body)
        about = attributes(body[8:])
        if len(wide := about.get(_IFA_FLAGS, b"")) == 4:
            flags = struct.unpack("=I", wide)[0]
        packed = about.get(_IFA_LOCAL) or about.get(_IFA_ADDRESS, b"")
        if flags & (_DEPRECATED | _TENTATIVE) or (family == socket.AF_INET6 and flags & _TEMPORARY):
            continue
        if len(packed) == {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family):
            yield index, str(ipaddress.ip_address(packed))


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")
