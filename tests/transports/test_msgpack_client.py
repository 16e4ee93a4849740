"""`mcp.msgpack` as transports/README.md describes it: a client written after that alone, with other people's libraries."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.packing import as_json
from tests.processes import MODERN_META, ROOT, serving

CAT = (ROOT / "tests/fixtures/chelsea.png").read_bytes()
DOCUMENT = (ROOT / "edge_mcp/transports/README.md").read_text("utf-8")


class Tiny:
    """The client."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.notified: list[dict[str, Any]] = []
        self._ids = itertools.count(1)

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(msgpack.packb({"jsonrpc": "2.0", **message}))

    async def receive(self) -> Any:
        return msgpack.unpackb(await self.socket.recv(decode=False))

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        meta = {**MODERN_META, **params.pop("meta", {})}
        await self.send({"id": number, "method": method, "params": {**params, "_meta": meta}})
        while (message := await self.receive()).get("id") != number:
            self.notified.append(message)
        result: dict[str, Any] = message.get("result") or message["error"]
        return result

    async def call(self, tool: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        return await self.ask("tools/call", name=tool, arguments=arguments, meta=meta or {})


@asynccontextmanager
async def opened(url: str, *subprotocols: str, compression: str | None = "deflate") -> AsyncIterator[ClientConnection]:
    offered = [Subprotocol(name) for name in subprotocols]
    async with connect(url, subprotocols=offered, max_size=None, compression=compression) as socket:
        yield socket


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_client_of_somebody_else_s(compression: str | None) -> None:
    async with (
        serving("--listen", "127.0.0.1:0") as served,
        opened(served.url, "mcp.msgpack", compression=compression) as socket,
    ):
        tiny = Tiny(socket)
        assert "2026-07-28" in (await tiny.ask("server/discover"))["supportedVersions"]
        assert "detect_objects" in {tool["name"] for tool in (await tiny.ask("tools/list"))["tools"]}
        binary = await tiny.call("detect_objects", image=CAT, annotate=True, meta={"progressToken": "p"})
        assert binary["structuredContent"]["detections"][0]["label"] == "Cat"
        assert binary["content"][1]["data"].startswith(b"\x89PNG")
        assert {one["params"]["progressToken"] for one in tiny.notified if one["method"] == "notifications/progress"} == {"p"}
        text = await tiny.call("detect_objects", image=as_json(CAT), annotate=True)
        assert text["structuredContent"]["detections"] == binary["structuredContent"]["detections"]
        assert text["content"][1] == binary["content"][1]
        assert (await tiny.call("detect_objects", image=msgpack.Timestamp(5)))["isError"]
        assert (await tiny.ask("tools/list", cursor=float("nan")))["code"] == -32602
        await socket.send(b"\xc1")
        assert (await tiny.receive())["error"]["code"] == -32700
        status = await tiny.ask("resources/read", uri="device://status")
        assert json.loads(status["contents"][0]["text"])["calls"] == {"answered": 2, "failed": 1}
        await socket.send("{}")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


async def test_what_is_said_in_both_encodings_is_the_same() -> None:
    async with serving("--listen", "127.0.0.1:0") as served, opened(served.url, "mcp.msgpack", "mcp") as packed:
        assert packed.subprotocol == "mcp.msgpack"
        async with opened(served.url, "mcp", "mcp.msgpack") as spoken:
            assert spoken.subprotocol == "mcp"
            tiny = Tiny(packed)
            for method in ("tools/list", "resources/list", "prompts/list", "no/such", "prompts/get"):
                request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": MODERN_META}}
                await spoken.send(json.dumps(request))
                answer = json.loads(await spoken.recv())
                assert await tiny.ask(method) == (answer.get("result") or answer["error"])


def test_the_document_s_example_is_a_call() -> None:
    lines = DOCUMENT.split("## A call\n")[1].split("```")[1].splitlines()
    words = "".join(word for line in lines for word in line.split('"')[0].replace("map of", "").split() if _is_hex(word))
    call = bytes.fromhex(words.removesuffix("…").replace("c54a3fffd8", "c50002ffd8"))
    assert msgpack.unpackb(call) == {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "detect_faces", "arguments": {"image": b"\xff\xd8"}},
    }


def _is_hex(word: str) -> bool:
    return len(word) > 1 and set(word.removesuffix("…")) <= set("0123456789abcdef")
