"""The bridge's HTTP side, with the official client as the host: what a device asks and tells reaches the one it is for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp_types import ElicitRequestParams, ElicitResult, LoggingMessageNotificationParams, TextContent

from edge_mcp.api import Context, Server
from edge_mcp.client.bridge import Bridge
from edge_mcp.client.bridge_device import Device
from edge_mcp.client.websocket import WebSocketServer
from edge_mcp.transports.base import Serve
from edge_mcp.transports.http import HttpListener

ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


def tools() -> Server:
    server = Server("device", models=False)

    @server.tool(annotations={"readOnlyHint": True})
    async def greet(context: Context) -> str:
        """Greets who says its name."""
        await context.log("info", "somebody is here")
        await context.progress(1, 2, "asking")
        asked = await context.elicit("Who?", {"type": "object", "properties": {"name": {"type": "string"}}})
        return f"Hello, {asked['content']['name']}"

    @server.tool(annotations={"readOnlyHint": True})
    async def name() -> str:
        """Answers at once."""
        return "device"

    return server


@asynccontextmanager
async def listening(serve: Serve, port: int = 0) -> AsyncIterator[str]:
    """A network listener, by its URL."""
    ready: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(HttpListener("127.0.0.1", port, ready=ready.put_nowait).listen(serve))
    try:
        yield await asyncio.wait_for(ready.get(), 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def bridged(url: str, said: Callable[[str], None] = lambda line: None) -> AsyncIterator[str]:
    """A bridge to the device at `url`, by its own."""
    device = Device(lambda: WebSocketServer.connect(url.replace("http", "ws", 1)), said)
    try:
        async with listening(Bridge(device).serve) as own:
            yield own
    finally:
        await device.close()


async def says(client: Client, tool: str, **more: Any) -> str:
    result = await client.call_tool(tool, {}, **more)
    assert not result.is_error, result.content
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


@ERAS
async def test_hosts_are_asked_and_told_each_for_itself(mode: str) -> None:
    told: dict[str, list[Any]] = {"Ada": [], "Bob": []}

    def host(url: str, name: str) -> Client:
        async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
            return ElicitResult(action="accept", content={"name": name})

        async def log(params: LoggingMessageNotificationParams) -> None:
            told[name].append(params.data)

        return Client(url, mode=mode, elicitation_callback=answer, logging_callback=log)

    async with listening(tools().connect) as device, bridged(device) as url, host(url, "Ada") as ada, host(url, "Bob") as bob:
        heard: list[str | None] = []

        async def progress(_done: float, _total: float | None, message: str | None) -> None:
            heard.append(message)

        calls = [says(client, "greet", progress_callback=progress) for client in (ada, bob) for _ in range(5)]
        assert await asyncio.gather(*calls) == ["Hello, Ada"] * 5 + ["Hello, Bob"] * 5
        assert set(heard) == {"asking"}
        if mode == "legacy":
            assert told == {"Ada": ["somebody is here"] * 5, "Bob": ["somebody is here"] * 5}


@ERAS
async def test_a_device_that_starts_anew_is_a_delay(mode: str) -> None:
    said: list[str] = []
    async with AsyncExitStack() as first:
        device = await first.enter_async_context(listening(tools().connect))
        async with bridged(device, said.append) as url, Client(url, mode=mode) as client:
            assert await says(client, "name") == "device"
            await first.aclose()
            waiting = asyncio.create_task(says(client, "name"))
            async with asyncio.timeout(20):
                while not any("refused" in line for line in said):
                    await asyncio.sleep(0.01)
            async with listening(tools().connect, int(device.split(":")[2].split("/")[0])):
                assert await asyncio.wait_for(waiting, 20) == "device"
                assert await says(client, "name") == "device"


async def test_requests_without_a_conversation_use_few_connections() -> None:
    """One after the other they use the same one; what is over is not kept."""
    server, seen = tools(), set[int]()

    async def serve(connection: Any) -> None:
        seen.add(connection.peer.number)
        await server.connect(connection)

    async with listening(serve) as device, bridged(device) as url, Client(url, mode="2026-07-28") as client:
        for _ in range(20):
            await says(client, "name")
        assert len(seen) == 1
        await asyncio.gather(*(says(client, "name") for _ in range(20)))
        assert len(seen) <= 20
        before = len(seen)
        for _ in range(20):
            await says(client, "name")
        assert len(seen) == before
