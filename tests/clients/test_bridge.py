"""Hosts that know nothing of edge-mcp take the whole journey through `edge-mcp connect`: as without it."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, StdioServerParameters
from websockets.asyncio.server import ServerConnection

from edge_mcp.client.sdk import device
from tests.client.test_websocket import answering
from tests.clients.journey import PICTURE, judge, travel
from tests.clients.test_inspector import small_picture
from tests.links import ws
from tests.peers import INSPECTOR, NODE, PYTHON, run
from tests.processes import ROOT, TOOLS, serving

HERE = ROOT / "tests/clients"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
CONNECT = [sys.executable, "-m", "edge_mcp", "connect"]
ERAS = pytest.mark.parametrize(("mode", "version"), [("auto", MODERN), ("legacy", LEGACY), (MODERN, MODERN)])


def bridge(*arguments: str, **environment: str) -> StdioServerParameters:
    return StdioServerParameters(command=CONNECT[0], args=[*CONNECT[1:], *arguments], cwd=ROOT, env=environment)


@asynccontextmanager
async def bridging(url: str) -> AsyncIterator[str]:
    """`edge-mcp connect URL --http 0`, by the address that it serves hosts at."""
    process = await asyncio.create_subprocess_exec(*CONNECT, url, "--http", "0", cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stderr.readline(), 20)
        found = re.search(rb"listening on (http://127\.0\.0\.1:\d+/mcp)", line)
        assert found, line
        yield found[1].decode()
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


@ERAS
async def test_python_2(mode: str, version: str) -> None:
    async with serving("--listen", "127.0.0.1:0") as served, Client(bridge(ws(served)), mode=mode) as client:
        judge(await travel(client), version)


@ERAS
async def test_python_2_in_this_process(mode: str, version: str) -> None:
    async with serving("--listen", "127.0.0.1:0") as served, Client(device(ws(served)), mode=mode) as client:
        judge(await travel(client), version)


@pytest.mark.parametrize("answer", ['"error":"bad"', '"result":[1]', '"result":{"n":1' + "0" * 5000 + "}"])
async def test_python_2_in_this_process_at_a_device_that_does_not_speak_mcp(answer: str) -> None:
    info = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}
    discovered = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **info}

    async def handle(socket: ServerConnection) -> None:
        async for frame in socket:
            asked = json.loads(frame)
            body = f'"result":{json.dumps(discovered)}' if asked["method"] == "server/discover" else answer
            await socket.send(f'{{"jsonrpc":"2.0","id":{json.dumps(asked["id"])},{body}}}')

    async with answering(handle) as url, Client(device(url)) as client:
        with pytest.raises(MCPError, match="the device's answer is not what MCP says"):
            await asyncio.wait_for(client.call_tool("t", {}), 30)


@ERAS
async def test_python_2_over_http(mode: str, version: str) -> None:
    async with serving("--listen", "127.0.0.1:0") as served, bridging(ws(served)) as url, Client(url, mode=mode) as client:
        judge(await travel(client), version)


async def test_python_1() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        judge(json.loads(await run(PYTHON, HERE / "python_v1.py", PICTURE, *CONNECT, ws(served))), LEGACY)


async def test_typescript_1() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        judge(json.loads(await run(NODE, HERE / "bridged.mjs", PICTURE, *CONNECT, ws(served))), LEGACY)


async def test_several_hosts_over_http_at_once() -> None:
    async with serving("--listen", "127.0.0.1:0") as served, bridging(ws(served)) as url:
        one = run(NODE, HERE / "sdk.mjs", url, PICTURE)
        other = run(NODE, HERE / "client.mjs", url, PICTURE, "auto")
        async with Client(url, mode="legacy") as third, Client(url, mode=MODERN) as fourth:
            seen = await asyncio.gather(one, other, travel(third), travel(fourth))
    judge(json.loads(seen[0]), LEGACY)
    judge(json.loads(seen[1]), MODERN)
    judge(seen[2], LEGACY)
    judge(seen[3], MODERN)


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
async def test_inspector(era: str, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    async with serving("--listen", "127.0.0.1:0") as served:
        target = [*INSPECTOR, *CONNECT, ws(served), "--protocol-era", era, "--cwd", str(ROOT)]

        async def ask(method: str, *more: str) -> Any:
            said = await run(*target, "--format", "json", "-q", "--method", method, *more, environment=home)
            return json.loads(said)["result"]

        assert [tool["name"] for tool in (await ask("tools/list", "--strict"))["tools"]] == TOOLS
        call = ["--tool-name", "detect_objects", "--tool-args-json", json.dumps({"image": small_picture()})]
        found = await ask("tools/call", *call)
        assert [detection["label"] for detection in found["structuredContent"]["detections"]] == ["Cat"]
        [card] = (await ask("resources/read", "--uri", "model://object-detector"))["contents"]
        assert json.loads(card["text"])


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_a_pinned_device_over_tls(mode: str, tmp_path: Path) -> None:
    async with serving("--listen", "127.0.0.1:0", "--tls", XDG_DATA_HOME=str(tmp_path)) as served:
        async with asyncio.timeout(30):
            while not any("certificate" in line for line in served.log):
                await asyncio.sleep(0.01)
        pin = re.search(r"sha256:[0-9a-f]{64}", served.log[-1])
        assert pin
        url = "wss://" + served.url.partition("://")[2]
        async with Client(bridge(f"{url}#fingerprint={pin[0]}"), mode=mode) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
        async with Client(bridge(url, "--fingerprint", pin[0]), mode=mode) as client:
            found = await client.call_tool("detect_language", {"text": "Wo ist der Bahnhof?"})
            assert not found.is_error


@pytest.mark.parametrize(("mode", "version"), [("legacy", LEGACY), (MODERN, MODERN)])
async def test_a_device_that_starts_anew_is_a_delay_and_nothing_else(mode: str, version: str, unused_tcp_port: int) -> None:
    """The journey goes on with another server process at the same address; the first one was killed."""
    address = f"127.0.0.1:{unused_tcp_port}"
    servers = AsyncExitStack()
    starting = asyncio.create_task(servers.enter_async_context(serving("--listen", address)))
    async with servers, Client(bridge(f"ws://{address}/mcp"), mode=mode) as client:  # before there is a device
        judge(await travel(client), version)
        first = await starting
        first.process.kill()
        await first.process.wait()
        calling = asyncio.create_task(client.call_tool("detect_language", {"text": "Wo ist der Bahnhof?"}))
        second = await servers.enter_async_context(serving("--listen", address))
        assert second.url, second.log
        assert not (await calling).is_error
        judge(await travel(client), version)
