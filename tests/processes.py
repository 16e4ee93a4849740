"""Real servers for tests: `edge-mcp serve` as a process, and what can be seen of it from outside."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cgroups import Group

ROOT = Path(__file__).parents[1]
SHIPPED = [
    "classify_image",
    "detect_faces",
    "detect_language",
    "detect_objects",
    "detect_speech",
    "detect_wake_word",
    "identify_file",
    "read_text",
]
"""The tools of the models that ship, as they are listed."""
TOOLS = [*SHIPPED, "device_status"]
"""What a server lists that has no other models."""
SERVE = [sys.executable, "-m", "edge_mcp", "serve"]
MODERN_META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@dataclass
class Served:
    """A server process that is up. `url` is set when it listens."""

    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)
    url: str = ""
    _ids: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def rss_mb(self) -> float:
        return status_mb(self.pid, "VmRSS")

    def peak_mb(self) -> float:
        return status_mb(self.pid, "VmHWM")

    def engine_pid(self) -> int | None:
        """The engine, while there is one that runs."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else None

    async def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def read(self) -> dict[str, Any]:
        """The next message on standard output."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        assert line, f"the server ended: {self.log}"
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One request over stdio in the modern era, and its answer."""
        self._ids += 1
        body = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": {**params, "_meta": MODERN_META}}
        await self.write(json.dumps(body).encode() + b"\n")
        answer = await self.read()
        assert answer["id"] == self._ids
        return answer

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool call over stdio."""
        result = (await self.ask("tools/call", name=name, arguments=arguments))["result"]
        assert isinstance(result, dict)
        return result

    async def failure(self, name: str, **arguments: Any) -> str:
        """The words with which a tool call fails."""
        result = await self.call(name, **arguments)
        assert result["isError"] is True
        assert [block["type"] for block in result["content"]] == ["text"]
        return str(result["content"][0]["text"])


def status_mb(pid: int, name: str) -> float:
    """A memory figure of /proc/PID/status, in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024


@asynccontextmanager
async def serving(
    *arguments: str, cwd: Path = ROOT, inside: Group | None = None, program: Sequence[str] = SERVE, **environment: str
) -> AsyncIterator[Served]:
    """`edge-mcp serve ARGUMENTS` (or another program), ended by SIGTERM, which must not take long."""

    command = [*program, *arguments]
    process = await asyncio.create_subprocess_exec(
        *(inside.running(command) if inside else command),
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=256 * 1024 * 1024,
    )
    served = Served(process)
    ready = asyncio.Event()

    async def follow() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            served.log.append(line.decode().rstrip())
            if found := re.search(r"listening on (\S+)", served.log[-1]):
                served.url = found[1].replace("http://", "ws://")
            if found or "--stdio" in arguments:
                ready.set()
        ready.set()

    following = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(ready.wait(), 60)
        yield served
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            raise
        await following
        if process.stdin is not None:
            process.stdin.close()
