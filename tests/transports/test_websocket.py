"""MCP over WebSocket, seen by a client that is not edge-mcp's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from edge_mcp.errors import ConfigError
from edge_mcp.transports.base import Connection
from edge_mcp.transports.http import HttpListener, Limits, Options
from tests.transports import contract
from tests.transports.contract import *  # noqa: F403 - the contract's tests

MCP = [Subprotocol("mcp")]


@asynccontextmanager
async def listening(serve: Callable[[Connection], Awaitable[None]], host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A listener on a free port, by its URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    options = Options(limits=Limits(message=contract.LIMIT))
    task = asyncio.create_task(HttpListener(host, 0, options, ready.set_result).listen(serve))
    try:
        yield (await asyncio.wait_for(ready, 5)).replace("http", "ws", 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class SocketPeer(contract.OtherEnd):
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send(frame.decode())
        except ConnectionClosed as error:
            raise OSError from error

    async def receive(self) -> bytes | None:
        try:
            text = await self._socket.recv()
        except ConnectionClosed:
            return None
        assert isinstance(text, str)
        return text.encode()

    async def close(self) -> None:
        await self._socket.close()


@pytest.fixture(params=[None, "deflate"])
async def link(request: pytest.FixtureRequest) -> AsyncIterator[contract.Link]:
    serving: list[Callable[[Connection], Awaitable[None]]] = []
    sockets: list[ClientConnection] = []

    async def serve(connection: Connection) -> None:
        await serving[-1](connection)

    async with listening(serve) as url:

        async def connect_(serve: Callable[[Connection], Awaitable[None]]) -> contract.OtherEnd:
            serving.append(serve)
            options: dict[str, Any] = {"compression": request.param, "max_queue": 1, "ping_interval": None, "close_timeout": 1}
            sockets.append(await connect(url, subprotocols=MCP, max_size=4 * contract.LIMIT, **options))
            return SocketPeer(sockets[-1])

        yield contract.Link(connect_)
        for socket in sockets:
            socket.transport.abort()


async def ignore(connection: Connection) -> None:
    async for _ in connection:
        pass


async def test_the_subprotocol_is_agreed_on_and_may_be_left_out() -> None:
    async with listening(ignore) as url:
        async with connect(url, subprotocols=MCP) as socket:
            assert socket.subprotocol == "mcp"
        async with connect(url) as socket:
            assert socket.subprotocol is None


async def test_other_subprotocols_are_refused() -> None:
    async with listening(ignore) as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, subprotocols=[Subprotocol("chat")])
        assert refused.value.response.status_code == 400


async def test_a_message_beyond_the_limit_ends_the_connection_with_the_reason() -> None:
    async with listening(ignore) as url, connect(url, subprotocols=MCP) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.send("x" * (contract.LIMIT + 1))
            await asyncio.wait_for(socket.recv(), 30)
        assert socket.close_code == 1009
        assert "max_message_mb" in (socket.close_reason or "")


async def test_binary_frames_are_refused_with_the_reason() -> None:
    async with listening(ignore) as url, connect(url, subprotocols=MCP) as socket:
        await socket.send(b"\x00")
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 30)
        assert socket.close_code == 1003
        assert "text frames" in (socket.close_reason or "")


@pytest.mark.parametrize(
    ("headers", "origin", "status"),
    [
        ({"Host": "evil.example.com"}, None, 421),
        ({"Host": "evil.example.com:80"}, "http://evil.example.com", 421),
        ({}, "https://evil.example.com", 403),
        ({}, "http://192.0.2.7", 403),
        ({}, "null", 403),
        ({}, "http://localhost:3000", 101),
        ({}, "http://127.0.0.1", 101),
        ({"Host": "localhost:99"}, None, 101),
    ],
)
async def test_pages_of_other_sites_are_refused(headers: dict[str, str], origin: str | None, status: int) -> None:
    async with listening(ignore) as url:
        host, port = url.removeprefix("ws://").removesuffix("/mcp").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = {"Host": f"{host}:{port}"} | headers | ({"Origin": Origin(origin)} if origin else {})
        lines = [f"{name}: {value}" for name, value in sent.items()]
        upgrade = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 22 + "=="
        )
        writer.write("\r\n".join(["GET /mcp HTTP/1.1", upgrade, *lines, "", ""]).encode())
        line = await asyncio.wait_for(reader.readline(), 30)
        assert int(line.split()[1]) == status
        writer.close()
        await writer.wait_closed()


async def test_a_plain_request_is_told_what_this_is() -> None:
    async with listening(ignore) as url:
        host, port = url.removeprefix("ws://").removesuffix("/mcp").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), 30)).decode()
        assert "406 Not Acceptable" in answer
        assert "text/event-stream" in answer
        writer.close()
        await writer.wait_closed()


async def test_a_port_in_use_is_one_clear_error() -> None:
    async with listening(ignore) as url:
        port = int(url.removesuffix("/mcp").rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}"):
            await HttpListener("127.0.0.1", port).listen(ignore)
