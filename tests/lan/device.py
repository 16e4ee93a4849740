"""A device with one tool that does one call after the other, run as a program; it says that all devices have the same.

Its argument is where to listen. SIGUSR1 slows it down to a quarter, SIGUSR2 ends that.
"""

import asyncio
import signal
import socket
import sys
from typing import Any

from msgspec.structs import replace

from edge_mcp import Server
from edge_mcp.tools.functions import FunctionTool

WORK_S = 0.02
server = Server("device", models=False, insecure=True)
one_at_a_time = asyncio.Lock()
slower = [1.0]
NAME = socket.gethostname()


async def work(n: int) -> dict[str, Any]:
    """Squares a number, slowly."""
    async with one_at_a_time:
        await asyncio.sleep(WORK_S * slower[0])
    return {"square": n * n, "by": NAME}


# As a model's tool does: function tools are never taken for the same.
_model = {"name": "squares", "version": "1.0.0", "sha256": "00112233aabbccdd"}
_tool = FunctionTool(work, annotations={"readOnlyHint": True})
_tool.definition = replace(_tool.definition, meta={"io.edge-mcp/model": _model})
server._own.tools.add(_tool)
signal.signal(signal.SIGUSR1, lambda *_: slower.__setitem__(0, 4.0))
signal.signal(signal.SIGUSR2, lambda *_: slower.__setitem__(0, 1.0))
server.run(listen=sys.argv[1])
