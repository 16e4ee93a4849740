"""WebSocket clients that know nothing of edge-mcp, with and without compression."""

import json
from typing import Any

import aiohttp
import msgspec
import picows.websockets
import pytest
import websockets.asyncio.client
from prometheus_client.parser import text_string_to_metric_families

from tests.clients.journey import PICTURE, judge
from tests.links import http, ws
from tests.peers import NODE, PYTHON, run
from tests.processes import ROOT, Served, serving

HERE = ROOT / "tests/clients"
CONNECTS: dict[str, Any] = {"websockets": websockets.asyncio.client.connect, "picows": picows.websockets.connect}


async def sent_share(served: Served) -> float:
    """How much of their size the server's messages had on the wire."""
    async with aiohttp.ClientSession() as session, session.get(http(served).replace("/mcp", "/metrics")) as answer:
        text = await answer.text()
    values = {family.name: family.samples[0].value for family in text_string_to_metric_families(text) if family.samples}
    assert values["edge_mcp_websocket_held_bytes"] < 300_000
    return values["edge_mcp_websocket_sent_wire_bytes"] / values["edge_mcp_websocket_sent_message_bytes"]


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("library", CONNECTS)
@pytest.mark.parametrize("encoding", ["mcp", "mcp.msgpack"])
async def test_a_python_library(library: str, compression: str | None, encoding: str) -> None:
    options: dict[str, Any] = {"subprotocols": [encoding], "compression": compression, "max_size": None, "proxy": None}
    async with serving("--listen", "127.0.0.1:0") as served:
        async with CONNECTS[library](ws(served), **options) as socket:
            assert socket.subprotocol == encoding

            async def ask(method: str, **params: Any) -> Any:
                message = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
                await socket.send(json.dumps(message) if encoding == "mcp" else msgspec.msgpack.encode(message))
                said = await socket.recv()
                answer = json.loads(said) if encoding == "mcp" else msgspec.msgpack.decode(said)
                assert answer["id"] == method
                return answer["result"]

            client = {"name": "test", "version": "1"}
            await ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
            tools = [(await ask("tools/list"))["tools"] for _ in range(3)]
            assert len(tools[0]) > 5
            assert tools[0] == tools[1] == tools[2]
            result = await ask("tools/call", name="detect_language", arguments={"text": "Wo ist der Bahnhof? " * 100})
            assert not result.get("isError")
        share = await sent_share(served)
        assert share < 0.4 if compression else share == 1, share


@pytest.mark.parametrize("options", [(), ("--no-deflate",)])
@pytest.mark.parametrize("client", [(PYTHON, HERE / "python_v1.py", PICTURE, ""), (NODE, HERE / "sdk.mjs", "", PICTURE)])
async def test_an_older_sdk(client: tuple[Any, ...], options: tuple[str, ...]) -> None:
    """Their libraries, `websockets` and Node's own, read what is compressed; what they send is theirs."""
    async with serving("--listen", "127.0.0.1:0", *options) as served:
        command = [part or ws(served) for part in client]
        judge(json.loads(await run(*command)), "2025-11-25")
        share = await sent_share(served)
    assert share == 1 if options else share < 0.9, share
