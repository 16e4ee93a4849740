"""What the kernel knows of a TCP connection, and what it does about a dead one while the server sleeps."""

import array
import fcntl
import socket
import struct
import termios
from asyncio import BaseTransport
from contextlib import suppress
from math import ceil

_BYTES_ACKED = struct.Struct("=120xQ")  # tcpi_bytes_acked of struct tcp_info, linux/tcp.h


def unread(transport: BaseTransport | None) -> int:
    """Bytes that came and were not read yet."""
    return _count(transport, termios.FIONREAD)


def unacknowledged(transport: BaseTransport | None) -> int:
    """Bytes that were sent, and which the other side's kernel has not confirmed."""
    return _count(transport, termios.TIOCOUTQ)


def acknowledged(transport: BaseTransport | None) -> int:
    """Bytes that were sent, and which the other side's kernel has confirmed, since the connection began; 0 where unknown."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0 and hasattr(socket, "TCP_INFO"):
        with suppress(OSError):  # not TCP, or it has just ended
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            return int(_BYTES_ACKED.unpack(info)[0]) if len(info) == _BYTES_ACKED.size else 0
    return 0


def watch(transport: BaseTransport | None, after_s: float, patience_s: float, probes: int) -> None:
    """Have the kernel end the connection by itself: when bytes stay unacknowledged for `after_s`, or when nothing came for
    so long and then `probes` probes, `patience_s` apart, are not answered (tcp(7))."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # it has just ended
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", ceil(after_s)),
            ("TCP_KEEPINTVL", ceil(patience_s)),
            ("TCP_KEEPCNT", probes),
            ("TCP_USER_TIMEOUT", ceil(after_s * 1000)),
        ):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _count(transport: BaseTransport | None, request: int) -> int:
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return 0
    count = array.array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(connection.fileno(), request, count)
    return count[0]
