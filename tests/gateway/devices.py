"""Real devices for the gateway's tests: programs on ports of the loopback interface, which can be killed and started again."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.context import Context, Question
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.protocol.codec import Arguments, codec_of
from edge_mcp.protocol.messages import LogLevel, ToolResult
from edge_mcp.transports.base import Peer
from tests.processes import ROOT


@dataclass(frozen=True)
class Place:
    """See gateway.upstream.Target."""

    name: str
    id: str
    url: str
    token: str = ""
    fingerprint: str = ""


class Replica:
    """The device of replica.py, on one port for all its lives."""

    def __init__(self, name: str, folder: Path, slower: float = 1.0) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.place = Place(name, f"id-{name}", f"ws://127.0.0.1:{self.port}/mcp")
        self._calls = folder / f"{name}.calls"
        self._calls.touch()
        self._slower = slower
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        script = str(Path(__file__).with_name("replica.py"))
        command = [sys.executable, script, str(self.port), self.place.name, str(self._calls), str(self._slower)]
        self._process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        lines = []
        async with asyncio.timeout(30):
            while b"listening on" not in (line := await self._process.stderr.readline()):
                lines.append(line)
                assert line, f"the device ended: {lines}"

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As a power cut would, except that the kernel says so."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    async def called(self, line: str) -> None:
        """Wait for a line among the calls."""
        await until(lambda: line in self.calls)


async def until(true: Callable[[], object]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def replicas(folder: Path, *names: str, slower: Mapping[str, float] | None = None) -> AsyncIterator[list[Replica]]:
    """Devices that are up."""
    made = [Replica(name, folder, (slower or {}).get(name, 1.0)) for name in names]
    try:
        await asyncio.gather(*(replica.start() for replica in made))
        yield made
    finally:
        await asyncio.gather(*(replica.kill() for replica in made))


@asynccontextmanager
async def upstreams(*devices: Replica, wait: bool = True) -> AsyncIterator[list[Upstream]]:
    """Connected to devices."""
    made = [Upstream(device.place) for device in devices]
    try:
        for upstream in made:
            upstream.start()
        if wait:
            await until(lambda: all(upstream.state == "up" for upstream in made))
        yield made
    finally:
        await asyncio.gather(*(upstream.close() for upstream in made))


class Host:
    """What a call hears of its host, and the host of its call; see context.Wire."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, float | None, str]] = []
        self.asked: list[Mapping[str, Question]] = []
        self.answers: Mapping[str, dict[str, Any]] = {}

    async def progress(self, done: float, total: float | None, message: str) -> None:
        self.heard.append((done, total, message))

    async def log(self, level: LogLevel, data: Any, logger: str) -> None:
        raise AssertionError(f"the gateway logs nothing to hosts: {data}")

    async def hang_up(self, retry_ms: int) -> None:
        raise AssertionError("the gateway hangs up on nobody")

    async def ask(self, questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
        self.asked.append(questions)
        return {key: {"action": "accept", "content": {"yes": True}} for key in questions}

    def context(self, deadline_ms: float | None = None, capabilities: Mapping[str, Any] | None = None) -> Context:
        context = Context(Peer("a host", principal="somebody"), capabilities or {}, None, self, self.ask)
        context.deadline_ms = deadline_ms
        return context


def given(encoding: str = "json", /, **arguments: Any) -> Arguments:
    """Arguments as a host writes them."""
    codec = codec_of(encoding)
    return Arguments(codec.encode(arguments), codec)


def said(result: ToolResult, arguments: Arguments) -> Any:
    """The structured content of a result, decoded."""
    value = result.structuredContent
    return arguments.codec.decode(value, Any) if isinstance(value, msgspec.Raw) else value
