"""A page in a browser speaks MCP over its own WebSocket, compressed and not."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.links import ws
from tests.processes import ROOT, serving

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
PAGE = ROOT / "tests/clients/page.html"


@asynccontextmanager
async def page(seen: "asyncio.Future[dict[str, Any]]") -> AsyncIterator[str]:
    """Where the page is; what it tells is in `seen`."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            seen.set_result(await request.json())
            return web.Response()
        return web.Response(text=PAGE.read_text(), content_type="text/html")

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def visit(address: str, profile: Path, seen: "asyncio.Future[dict[str, Any]]") -> dict[str, Any]:
    """Have a browser open a page; what the page says."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program is not None, "there is no browser: scripts/peers says which one to install"
    # What runs is our own page, and root may not use the sandbox.
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    quiet = asyncio.subprocess.DEVNULL
    # The program may be a script that starts the browser: all of its group is ended.
    process = await asyncio.create_subprocess_exec(
        program, *flags, address, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        return await asyncio.wait_for(seen, 60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.parametrize("options", [(), ("--no-deflate",)])
async def test_a_page_calls_a_tool(options: tuple[str, ...], tmp_path: Path) -> None:
    seen: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    async with serving("--listen", "127.0.0.1:0", *options) as served, page(seen) as address:
        told = await visit(f"{address}?{quote(f'{ws(served)},mcp')}", tmp_path, seen)
    assert told["protocol"] == "mcp"
    assert told["extensions"].startswith("permessage-deflate") is not bool(options)
    assert told["version"] == "2025-11-25"
    assert told["tools"] > 5
    assert json.loads(told["result"]["content"][0]["text"])
    assert told["closed"] == [1000, True]
