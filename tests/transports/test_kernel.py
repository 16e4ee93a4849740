"""The kernel's counts and timers, on real sockets."""

import asyncio
import socket

from edge_mcp.transports import kernel


async def pair() -> tuple[asyncio.Transport, socket.socket]:
    """A TCP connection: one end with asyncio, the other one not read by anybody."""
    listener = socket.create_server(("127.0.0.1", 0))
    other = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    listener.close()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
    return transport, other


async def test_what_was_not_read_and_what_was_not_taken_is_counted() -> None:
    transport, other = await pair()
    transport.pause_reading()
    assert (kernel.unread(transport), kernel.unacknowledged(transport)) == (0, 0)
    other.sendall(b"hello")
    assert kernel.unread(transport) == 5
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport.write(b"x" * 16_000_000)
    full = kernel.unacknowledged(transport) + transport.get_write_buffer_size()
    assert full > 10_000_000
    before = kernel.acknowledged(transport)
    while kernel.acknowledged(transport) < before + 100_000:
        other.recv(1_000_000)
        await asyncio.sleep(0)
    assert kernel.unacknowledged(transport) + transport.get_write_buffer_size() < full
    transport.abort()
    other.close()
    await asyncio.sleep(0)
    assert (kernel.unread(transport), kernel.unacknowledged(transport), kernel.acknowledged(transport)) == (0, 0, 0)
    kernel.watch(transport, 60, 10, 2)
    kernel.watch(None, 60, 10, 2)
    assert (kernel.unread(None), kernel.acknowledged(None)) == (0, 0)
    left, right = socket.socketpair()
    local, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=left)
    assert kernel.acknowledged(local) == 0
    kernel.watch(local, 60, 10, 2)
    local.abort()
    right.close()


async def test_the_kernel_is_told_when_a_peer_is_dead() -> None:
    transport, other = await pair()
    kernel.watch(transport, 72.5, 10, 2)
    connection = transport.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    assert [connection.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [73, 10, 2, 72500]
    transport.abort()
    other.close()
