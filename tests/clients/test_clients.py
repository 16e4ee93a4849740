"""MCP clients that know nothing of edge-mcp take the whole journey on the models that ship; see journey.py."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.clients.journey import PICTURE, judge, travel
from tests.links import http, over_http, over_stdio, over_websocket, ws
from tests.peers import NODE, PYTHON, REMOTE, STDIO, run
from tests.processes import ROOT, serving

HERE = ROOT / "tests/clients"
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@pytest.mark.parametrize("link", [over_stdio, over_http, over_websocket])
@pytest.mark.parametrize(("mode", "version"), [("auto", MODERN), ("legacy", LEGACY), (MODERN, MODERN)])
async def test_python_2(link: Any, mode: str, version: str) -> None:
    opened: AbstractAsyncContextManager[Client] = link(mode)
    async with opened as client:
        judge(await travel(client), version)


async def test_python_1_over_stdio() -> None:
    judge(json.loads(await run(PYTHON, HERE / "python_v1.py", PICTURE, *STDIO)), LEGACY)


@pytest.mark.parametrize("address", [http, ws])
async def test_python_1(address: Any) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        seen = json.loads(await run(PYTHON, HERE / "python_v1.py", PICTURE, address(served)))
    judge(seen, LEGACY)
    assert address is ws or "cancelled" in seen["cancelled"]  # without an answer it would poll for one, once a second


@pytest.mark.parametrize("address", [http, ws])
async def test_typescript_1(address: Any) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        judge(json.loads(await run(NODE, HERE / "sdk.mjs", address(served), PICTURE)), LEGACY)


@pytest.mark.parametrize(("mode", "version"), [((), LEGACY), (("auto",), MODERN), ((MODERN,), MODERN)])
async def test_typescript_2(mode: tuple[str, ...], version: str) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        judge(json.loads(await run(NODE, HERE / "client.mjs", http(served), PICTURE, *mode)), version)


@pytest.mark.parametrize("protocol", [(), ("--protocol", "auto")])
async def test_mcp_remote(protocol: tuple[str, ...], tmp_path: Path) -> None:
    """A bridge from a host that speaks stdio only; which era the server is spoken to in is the bridge's own affair."""
    async with serving("--listen", "127.0.0.1:0") as served:
        arguments = [*REMOTE[1:], http(served), "--allow-http", "--transport", "http-only", *protocol]
        bridge = StdioServerParameters(command=REMOTE[0], args=arguments, env={"HOME": str(tmp_path)})
        async with Client(bridge, mode="legacy") as client:
            judge(await travel(client), LEGACY)
