"""Servers of `gated.py` and their clients, on any transport and in either era."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from edge_mcp.transports.memory import MemoryConnection
from tests.processes import ROOT, Served, serving
from tests.repository.constants import write
from tests.talk import LEGACY, MODERN, Talk

GATED = [sys.executable, str(ROOT / "tests/scheduling/gated.py")]
LONG_MS = 86_400_000
WITHIN_S = 60.0


class Line:
    """A Talk's connection over a real server's standard input and output, or over a WebSocket."""

    encoding = "json"

    def __init__(self, served: Served, socket: ClientConnection | None) -> None:
        self._served = served
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        if self._socket is not None:
            await self._socket.send(frame.decode())
        else:
            await self._served.write(frame + b"\n")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._socket is not None:
            async for text in self._socket:
                yield text.encode() if isinstance(text, str) else text
            return
        assert self._served.process.stdout is not None
        async for line in self._served.process.stdout:
            yield line


class Gate:
    """A server that listens on both transports. `folder` is its device; the models are `adder` and `other`."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served = served
        self.folder = folder

    def shut(self) -> None:
        """No run ends from now on."""
        (self.folder / "gate").touch()

    def open(self) -> None:
        """All runs end."""
        (self.folder / "gate").unlink(missing_ok=True)

    def say(self, file: str, text: str) -> None:
        """What the device's /proc or /sys says."""
        (self.folder / "device" / file).write_text(text)

    def runs(self) -> list[float]:
        """The number in each call that has begun to run, in order."""
        file = self.folder / "runs"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(arguments)["x"][0] for line in lines for arguments in json.loads(line)]

    @asynccontextmanager
    async def talking(
        self, transport: str = "websocket", version: str = MODERN, capabilities: dict[str, Any] | None = None
    ) -> AsyncIterator[Talk]:
        """A conversation that is open; there is one over stdio."""
        socket = await connect(self.served.url, subprotocols=[Subprotocol("mcp")]) if transport == "websocket" else None
        talk = Talk(cast(MemoryConnection, Line(self.served, socket)), version, capabilities or {})
        reading = asyncio.create_task(talk.read())
        try:
            if version == LEGACY:
                hello = {"capabilities": talk.capabilities, "clientInfo": {"name": "talk", "version": "1"}}
                await talk.ask("initialize", protocolVersion=version, **hello)
                await talk.send({"method": "notifications/initialized"})
            yield talk
        finally:
            if socket is not None:
                await socket.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def gated(folder: Path, *flags: str) -> AsyncIterator[Gate]:
    """A server with one lane on a calm device; its gate is open. `other` has a deadline of 20 ms in its manifest."""
    shutil.copytree(ROOT / "tests/load/boards/x86", folder / "device")
    write(folder / "models/adder", 1)
    manifest = write(folder / "models/other", 2) / "model.toml"
    manifest.write_text(manifest.read_text().replace('"adder"', '"other"') + "[scheduling]\ndeadline_ms = 20\n")
    arguments = (str(folder), "serve", "--stdio", "--listen", "127.0.0.1:0", "--lanes", "1", "--models", str(folder / "models"))
    async with serving(*arguments, *flags, program=GATED, XDG_CACHE_HOME=str(folder / "cache")) as served:
        gate = Gate(served, folder)
        await until(lambda: _is(bool(served.url)), "it listens")
        try:
            yield gate
        finally:
            gate.open()


async def _is(true: bool) -> bool:
    return true


async def until(true: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until something is so in another process."""
    end = asyncio.get_running_loop().time() + WITHIN_S
    while not await true():
        assert asyncio.get_running_loop().time() < end, f"it never came to be that {what}"
        await asyncio.sleep(0.01)


async def load(talk: Talk) -> tuple[int, int]:
    """How many calls wait, and how many batches run."""
    contents = (await talk.ask("resources/read", uri="device://load"))["contents"]
    told = json.loads(contents[0]["text"])
    return told["queued"], told["running"]


async def until_load(talk: Talk, queued: int, running: int) -> None:
    """Wait until so many calls wait and so many batches run."""

    async def is_so() -> bool:
        return await load(talk) == (queued, running)

    await until(is_so, f"{queued} calls wait and {running} run")


async def begin(talk: Talk, number: float, meta: dict[str, Any] | None = None, tool: str = "adder") -> "asyncio.Future[Any]":
    """Call with a number, with all the time in the world unless `meta` says otherwise."""
    meta = {"io.edge-mcp/deadlineMs": LONG_MS} if meta is None else meta
    _, future = await talk.begin("tools/call", meta, name=tool, arguments={"x": [number]})
    return future


async def answer(future: "asyncio.Future[Any]") -> float:
    """What the model answered."""
    got = await asyncio.wait_for(future, WITHIN_S)
    assert "result" in got, got
    assert not got["result"].get("isError"), got
    return float(got["result"]["structuredContent"]["outputs"]["y"]["data"][0])


async def held(gate: Gate, talk: Talk, number: float = 0) -> "asyncio.Future[Any]":
    """A call that keeps the one lane busy until the gate opens."""
    gate.shut()
    future = await begin(talk, number)
    await until_load(talk, 0, 1)
    return future
