"""`edge-mcp gateway` as a process before devices that are processes too, used by the official client and by plain messages."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import TextContent, TextResourceContents

from tests.gateway.devices import until
from tests.processes import MODERN_META, ROOT

PROGRAM = Path(__file__).with_name("offering.py")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def process(folder: Path, *command: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A program of Python that listens, and its URL; killed in the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(folder)}
    started = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert started.stderr is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(30):
            while not (
                match := re.search(r"http://(127\.0\.0\.1:\d+/mcp)", line := (await started.stderr.readline()).decode())
            ):
                assert line, "it ended"
        reading = asyncio.create_task(started.stderr.read())
        yield started, match[1]
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
        if reading is not None:
            await reading


@asynccontextmanager
async def offering(folder: Path, port: int, about: str = "Counts.") -> AsyncIterator[asyncio.subprocess.Process]:
    async with process(folder, str(PROGRAM), str(port), about) as (started, _):
        yield started


@asynccontextmanager
async def gateway(folder: Path, **ports: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The command before devices on these ports."""
    devices = [word for name, port in ports.items() for word in ("--device", f"{name}=ws://127.0.0.1:{port}/mcp")]
    async with process(folder, "-m", "edge_mcp", "gateway", "--listen", "127.0.0.1:0", *devices) as (started, url):
        yield started, f"http://{url}"


async def shown(client: Client, *names: str) -> None:
    """Wait for these tools."""
    async with asyncio.timeout(30):
        while (now := sorted(tool.name for tool in (await client.list_tools(cache_mode="refresh")).tools)) != sorted(names):
            await asyncio.sleep(0.05)
    assert now == sorted(names)


async def text(client: Client, uri: str) -> str:
    contents = (await client.read_resource(uri)).contents[0]
    assert isinstance(contents, TextResourceContents)
    return contents.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_has_all_devices_in_one(tmp_path: Path, mode: Any) -> None:
    a, b = free_port(), free_port()
    async with AsyncExitStack() as stack:
        for port in (a, b):
            await stack.enter_async_context(offering(tmp_path, port))
        _, url = await stack.enter_async_context(gateway(tmp_path, kitchen=a, garage=b))
        client = await stack.enter_async_context(Client(url, mode=mode))
        await shown(client, "kitchen.count", "kitchen.wait", "garage.count", "garage.wait")
        heard: list[str | None] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            heard.append(message)

        assert not (await client.call_tool("kitchen.count", {"to": 3}, progress_callback=progress)).is_error
        assert heard == ["half", "all"]
        assert await text(client, "edge://kitchen/test/count") == "3"
        assert await text(client, "edge://garage/test/count") == "0"
        assert await text(client, "edge://garage/test/twice/ab") == "abab"
        resources = [str(resource.uri) for resource in (await client.list_resources()).resources]
        assert sorted(resources) == ["edge://garage/test/count", "edge://kitchen/test/count", "gateway://devices"]
        templates = (await client.list_resource_templates()).resource_templates
        assert sorted(template.uri_template for template in templates) == [
            "edge://garage/test/twice/{number}",
            "edge://kitchen/test/twice/{number}",
        ]
        prompt = await client.get_prompt("garage.greet", {"whom": "Ada"})
        assert isinstance(prompt.messages[0].content, TextContent)
        assert prompt.messages[0].content.text == "Greet Ada."
        with pytest.raises(MCPError, match="there is no resource edge://attic/test/count"):
            await client.read_resource("edge://attic/test/count")
        devices = json.loads(await text(client, "gateway://devices"))["devices"]
        assert [(device["prefix"], device["state"]) for device in devices] == [("kitchen", "up"), ("garage", "up")]


class Host:
    """One that speaks stdio: plain messages of 2026-07-28."""

    def __init__(self, started: asyncio.subprocess.Process) -> None:
        self._process = started
        self.notes: list[dict[str, Any]] = []
        self._ids = 0

    def send(self, **message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def begin(self, method: str, **params: Any) -> int:
        self._ids += 1
        self.send(id=self._ids, method=method, params={**params, "_meta": MODERN_META})
        return self._ids

    async def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.notes.append(message)
        return message

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        known = self.begin(method, **params)
        while (answer := await self.read()).get("id") != known:
            continue
        result: dict[str, Any] = answer["result"]
        return result

    async def told(self, method: str) -> None:
        """Wait for a notification, from now on."""
        while (await self.read()).get("method") != method:
            continue

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.ask("tools/list"))["tools"]]


@asynccontextmanager
async def host(folder: Path, *command: str) -> AsyncIterator[Host]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_mcp", *command,
        cwd=ROOT, env={**os.environ, "XDG_DATA_HOME": str(folder)}, stdin=-1, stdout=-1, limit=2**24,
    )  # fmt: skip
    try:
        yield Host(started)
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.mark.parametrize("command", [("gateway", "--stdio"), ("connect", "--all")])
async def test_a_stdio_host_is_answered_before_a_device_is_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    port = free_port()
    async with host(tmp_path, *command, "--device", f"kitchen=ws://127.0.0.1:{port}/mcp") as talk:
        assert await talk.tools() == []
        assert "Devices may come later" in (await talk.ask("server/discover"))["instructions"]
        talk.begin("subscriptions/listen", notifications={"toolsListChanged": True})
        async with offering(tmp_path, port):
            await talk.told("notifications/tools/list_changed")
            assert await talk.tools() == ["kitchen.count", "kitchen.wait"]


async def test_changes_and_cancellation_pass_through(tmp_path: Path) -> None:
    port, uri = free_port(), "edge://kitchen/test/count"
    async with (
        offering(tmp_path, port),
        host(tmp_path, "gateway", "--stdio", "--device", f"kitchen=ws://127.0.0.1:{port}/mcp") as talk,
    ):
        while not await talk.tools():
            await asyncio.sleep(0.05)
        talk.begin("subscriptions/listen", notifications={"resourceSubscriptions": [uri]})
        await talk.told("notifications/subscriptions/acknowledged")
        note = asyncio.create_task(talk.told("notifications/resources/updated"))
        while not note.done():  # until the device is listened to
            talk.begin("tools/call", name="kitchen.count", arguments={})
            await asyncio.wait([note], timeout=0.2)
        waiting = talk.begin("tools/call", name="kitchen.wait", arguments={})
        talk.begin("tools/call", name="kitchen.count", arguments={})
        await talk.told("notifications/resources/updated")
        talk.send(method="notifications/cancelled", params={"requestId": waiting})
        async with asyncio.timeout(30):
            while int((await talk.ask("resources/read", uri=uri))["contents"][0]["text"]) < 1000:
                await asyncio.sleep(0.05)
        completion = await talk.ask(
            "completion/complete",
            ref={"type": "ref/prompt", "name": "kitchen.greet"},
            argument={"name": "whom", "value": "Al"},
        )
        assert completion["completion"]["values"] == ["Alan"]


async def confirm(folder: Path, name: str) -> tuple[int, str]:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_mcp", "gateway", "--confirm", name,
        cwd=ROOT, env={**os.environ, "XDG_DATA_HOME": str(folder)}, stdout=-1, stderr=-1,
    )  # fmt: skip
    out, err = await run.communicate()
    assert run.returncode is not None
    return run.returncode, (out + err).decode()


async def test_a_tool_that_means_something_else_is_held_back_until_the_owner_confirms_it(tmp_path: Path) -> None:
    port = free_port()
    async with gateway(tmp_path, kitchen=port) as (started, url), Client(url) as client:
        async with offering(tmp_path, port):
            await shown(client, "kitchen.count", "kitchen.wait")
        async with offering(tmp_path, port, "Deletes all files."):
            await shown(client, "kitchen.wait")
            with pytest.raises(MCPError, match="unknown tool"):
                await client.call_tool("kitchen.count", {})
            [held] = json.loads(await text(client, "gateway://devices"))["held"]
            assert held["tool"] == "kitchen.count"
            assert (tmp_path / "edge-mcp/gateway.json").stat().st_mode & 0o777 == 0o600
            status, said = await confirm(tmp_path, "nothing")
            assert (status, said) == (1, "edge-mcp: no tool nothing is held back. Held back are: kitchen.count\n")
            assert await confirm(tmp_path, "kitchen.count") == (0, "kitchen.count\n")
            await shown(client, "kitchen.count", "kitchen.wait")
        started.send_signal(signal.SIGHUP)
        assert await text(client, "gateway://devices"), "it goes on"
        started.send_signal(signal.SIGTERM)
        await until(lambda: started.returncode is not None)
        assert started.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gateway", "--device", "http://x/mcp"), "http://x/mcp is no device"),
        (("gateway", "--device", "a=ws://x/mcp", "--device", "A=ws://y/mcp"), "two devices are called a"),
        (("connect", "--all", "ws://x/mcp"), "--all goes with no device"),
        (("connect",), "no device is named"),
        (("connect", "ws://x/mcp", "--unknown"), "--device, --unknown and --device-token-file go with --all"),
    ],
)
async def test_wrong_words_are_told_in_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_mcp", *words,
        cwd=ROOT, env={**os.environ, "XDG_DATA_HOME": str(tmp_path)}, stdin=-1, stderr=-1,
    )  # fmt: skip
    _, err = await run.communicate()
    assert run.returncode == 1
    assert err.decode().startswith(f"edge-mcp: {said}")
    assert err.count(b"\n") == 1
