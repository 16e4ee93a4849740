"""The official MCP client on each of edge-mcp's transports."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from mcp import Client, StdioServerParameters
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.processes import ROOT, Served, serving


def http(served: Served) -> str:
    """Where a listening server speaks Streamable HTTP: where it speaks WebSocket too."""
    return "http://" + served.url.partition("://")[2]


def ws(served: Served) -> str:
    return "ws://" + served.url.partition("://")[2]


@asynccontextmanager
async def websocket(url: str) -> AsyncIterator[TransportStreams]:
    """The official client over a generic WebSocket: one JSON-RPC message per text frame."""
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](16)
    to_server, from_client = anyio.create_memory_object_stream[SessionMessage](16)
    async with (
        connect(url, subprotocols=[Subprotocol("mcp")], max_size=None) as socket,
        to_client, from_server, to_server, from_client,
        anyio.create_task_group() as tasks,
    ):  # fmt: skip

        async def receive() -> None:
            async for text in socket:
                await to_client.send(SessionMessage(jsonrpc_message_adapter.validate_json(text)))

        async def send() -> None:
            async for message in from_client:
                body: JSONRPCMessage = message.message
                await socket.send(body.model_dump_json(by_alias=True, exclude_unset=True))

        tasks.start_soon(receive)
        tasks.start_soon(send)
        yield from_server, to_server
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def over_stdio(mode: str) -> AsyncIterator[Client]:
    server = StdioServerParameters(command=sys.executable, args=["-m", "edge_mcp", "serve", "--stdio"], cwd=ROOT)
    async with Client(server, mode=mode) as client:
        yield client


@asynccontextmanager
async def over_websocket(mode: str) -> AsyncIterator[Client]:
    async with serving("--listen", "127.0.0.1:0") as served, Client(websocket(ws(served)), mode=mode) as client:
        yield client


@asynccontextmanager
async def over_http(mode: str) -> AsyncIterator[Client]:
    async with serving("--listen", "127.0.0.1:0") as served, Client(http(served), mode=mode) as client:
        yield client
