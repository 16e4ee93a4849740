"""A server at the other end of a WebSocket: the contract of a connection, and what an address can turn out to be."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from socket import IPPROTO_TCP, TCP_INFO
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from edge_mcp.client import websocket as websocket_module
from edge_mcp.client.client import Client
from edge_mcp.client.websocket import WebSocketServer
from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.transports.base import Connection
from tests.transports import contract
from tests.transports.contract import *  # noqa: F403 - the contract's tests

MCP = [Subprotocol("mcp")]


@asynccontextmanager
async def answering(
    handle: Callable[[ServerConnection], Awaitable[None]], subprotocols: list[Subprotocol] | None = MCP, **more: Any
) -> AsyncIterator[str]:
    """A WebSocket server that is not edge-mcp's, by its URL."""
    options: dict[str, Any] = {"subprotocols": subprotocols, "compression": None, "max_size": None, "close_timeout": 0.5}
    async with serve(handle, "127.0.0.1", 0, **options, **more) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


class SocketPeer(contract.OtherEnd):
    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send(frame.decode())
        except SocketClosed as error:
            raise OSError from error

    async def receive(self) -> bytes | None:
        try:
            text = await self._socket.recv()
        except SocketClosed:
            return None
        assert isinstance(text, str)
        return text.encode()

    async def close(self) -> None:
        await self._socket.close()


@pytest.fixture
async def link() -> AsyncIterator[contract.Link]:
    sockets: asyncio.Queue[ServerConnection] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    async def accept(socket: ServerConnection) -> None:
        sockets.put_nowait(socket)
        await socket.wait_closed()

    async with answering(accept) as url:

        async def connect(serve: Callable[[Connection], Awaitable[None]]) -> contract.OtherEnd:
            connection = await WebSocketServer.connect(url, contract.LIMIT)

            async def run() -> None:
                try:
                    await serve(connection)
                finally:
                    await connection.close()

            tasks.append(asyncio.create_task(run()))
            return SocketPeer(await asyncio.wait_for(sockets.get(), 30))

        yield contract.Link(connect)
        for task in tasks:
            task.cancel()
        await contract.settled(tasks)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/mcp", "127.0.0.1:8765", "ws://", "ws://:x/mcp", "ws://127.0.0.1:99999/mcp", ""]
)
async def test_what_is_no_address_of_a_websocket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not the address of a WebSocket\. An edge-mcp server is at ws://HOST:PORT/mcp"):
        await WebSocketServer.connect(url)


async def test_an_address_where_nobody_listens_is_an_error_of_one_line(unused_tcp_port: int) -> None:
    with pytest.raises(ConfigError, match=rf"^ws://127.0.0.1:{unused_tcp_port}/mcp cannot be reached: Connection refused\. "):
        await WebSocketServer.connect(f"ws://127.0.0.1:{unused_tcp_port}/mcp")


async def test_a_name_that_does_not_exist_is_an_error_of_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^ws://no-such-host\.invalid/mcp cannot be reached: "):
        await WebSocketServer.connect("ws://no-such-host.invalid/mcp")


@asynccontextmanager
async def saying(text: bytes) -> AsyncIterator[str]:
    """A TCP server that answers `text` whatever it is asked, by the URL that it does not deserve."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        if not text:
            await reader.read()
        writer.close()
        ended.set()

    ended = asyncio.Event()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        await asyncio.wait_for(ended.wait(), 30)
        server.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers, but not as an MCP server: 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "answers, but not as an MCP server: 200"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached"),
    ],
)
async def test_a_server_of_another_kind_is_an_error_of_one_line(answer: bytes, reason: str) -> None:
    async with saying(answer) as url:
        with pytest.raises(ConfigError, match=reason):
            await WebSocketServer.connect(url)


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "CONNECT_S", 0.05)
    async with saying(b"") as url:
        with pytest.raises(ConfigError, match="does not answer within"):
            await WebSocketServer.connect(url)


async def test_a_websocket_that_is_no_mcp_server_is_refused() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with answering(handle, subprotocols=None) as url:
        with pytest.raises(ConfigError, match="is a WebSocket, but no MCP server"):
            await WebSocketServer.connect(url)


async def test_the_reason_of_a_close_becomes_the_error() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1013, "too hot, come back later")

    async with answering(handle) as url:
        with pytest.raises(ConnectionClosed, match=r"closed the connection: too hot, come back later \(1013\)"):
            await Client(await WebSocketServer.connect(url)).__aenter__()


async def test_a_connection_that_breaks_is_an_error() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        socket.transport.abort()

    async with answering(handle) as url:
        with pytest.raises(ConnectionClosed, match=r"closed the connection|connection broke"):
            await Client(await WebSocketServer.connect(url)).__aenter__()


async def test_a_message_that_is_given_up_while_it_is_sent_takes_no_other_along() -> None:
    """And those that were not begun yet are not held for a server that does not read."""
    reads = asyncio.Event()
    got: list[int] = []

    async def handle(socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        await reads.wait()
        socket.transport.resume_reading()
        async for message in socket:
            got.append(len(message))
            if len(got) == 2:
                return

    async with answering(handle) as url:
        connection = await WebSocketServer.connect(url)
        large = b'"%s"' % (b"x" * 30_000_000)  # more than any buffer on the way
        begun, *later = [asyncio.create_task(connection.send(large)) for _ in range(4)]
        await asyncio.sleep(0)
        last = asyncio.create_task(connection.send(large[-200_000:]))
        await asyncio.sleep(0)
        for one in (begun, *later):
            one.cancel()
        await asyncio.wait([begun, *later])
        assert not last.done()
        reads.set()
        await last
        assert [frame async for frame in connection] == []
        await connection.close()
    assert got == [len(large), 200_000]


async def test_a_server_is_not_silent_while_nobody_reads_what_it_says() -> None:
    async def handle(socket: ServerConnection) -> None:
        while True:
            await socket.send("x" * 100_000)

    async with answering(handle) as url:
        connection = await WebSocketServer.connect(url)
        raw = connection._socket.get_extra_info("socket")
        async with asyncio.timeout(30):
            while int.from_bytes(raw.getsockopt(IPPROTO_TCP, TCP_INFO, 56)[52:], sys.byteorder) < 300:
                await asyncio.sleep(0.01)
        heard = connection.heard()
        assert heard is not None
        assert heard[0] == 0
        await connection.close()


@pytest.mark.parametrize("manner", ["floods", "is deaf"])
async def test_a_server_that_does_not_let_go_is_left(manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "CLOSE_S", 0.2)

    async def handle(socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        while manner == "floods":
            await socket.send("x" * 10_000)
        await socket.wait_closed()

    async with answering(handle) as url:
        connection = await WebSocketServer.connect(url)
        reading = asyncio.create_task(anext(aiter(connection), None))
        sending = asyncio.create_task(connection.send(b"x" * 30_000_000))
        if manner == "floods":
            await reading
        await asyncio.wait_for(connection.close(), 30)
        with pytest.raises(ConnectionClosed):
            await sending
        await asyncio.wait([reading])


async def test_a_server_that_names_another_address_is_not_followed() -> None:
    asked: list[str] = []

    def redirect(socket: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        response = socket.respond(302, "")
        response.headers["Location"] = f"http://{request.headers['Host']}/other"
        return response

    async with answering(lambda socket: socket.wait_closed(), process_request=redirect) as url:
        with pytest.raises(ConfigError, match="answers, but not as an MCP server: 302 it names another address"):
            await WebSocketServer.connect(url)
    assert asked == ["/mcp"]


async def test_a_binary_message_ends_the_conversation_and_says_so() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(b"\x00")
        await socket.wait_closed()

    async with answering(handle) as url:
        with pytest.raises(ConnectionClosed, match="the server sent a binary message, which the subprotocol mcp has not"):
            await Client(await WebSocketServer.connect(url)).__aenter__()
