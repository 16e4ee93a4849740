"""The programs that scripts/peers installs: other MCP clients and the conformance suite, run as processes."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.processes import ROOT

MODULES = ROOT / "tests/clients/node_modules"
NODE = ROOT / ".venv-peers/bin/node"
PYTHON = ROOT / ".venv-peers/bin/python"
"""With the first generation of the Python SDK."""
INSPECTOR = [str(NODE), str(MODULES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"), "--cli"]
CONFORMANCE = [str(NODE), str(MODULES / "@modelcontextprotocol/conformance/dist/index.js")]
REMOTE = [str(NODE), str(MODULES / "mcp-remote/dist/proxy.js")]
STDIO = [sys.executable, "-m", "edge_mcp", "serve", "--stdio"]


async def run(
    *command: str | Path, within: float = 90, codes: tuple[int, ...] = (0,), environment: Mapping[str, str] | None = None
) -> str:
    """What a program prints, which must end `within` seconds with one of these exit codes."""
    assert NODE.exists() and MODULES.exists(), "the peers are not installed: run scripts/peers"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), within)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = f"{process.returncode} from {' '.join(map(str, command))[:300]}\n{err.decode()[-4000:]}\n{out.decode()[-4000:]}"
    assert process.returncode in codes, said
    return out.decode()
