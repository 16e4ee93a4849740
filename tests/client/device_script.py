"""A device for tests: a server with tools that say, or do not say, that they may be called twice; run as a program.

Its arguments are the port, a file that gets a line for each call of `once` and `forget`, and the name of one more tool.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from edge_mcp import Context, Server
from edge_mcp.errors import BusyError, EngineError

PORT, CALLS, MORE = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
server = Server("device", models=False, max_message_mb=1)
peers: set[int] = set()
running = [0, 0]
refused: dict[str, int] = {}


def note(line: str) -> None:
    with CALLS.open("a") as file:
        file.write(f"{line}\n")


@server.tool(annotations={"readOnlyHint": True})
async def safe(n: int, wait: float = 0.0, stream: str = "") -> int:
    """May be called twice."""
    note(f"safe {n}")
    await asyncio.sleep(wait)
    return n


@server.tool(annotations={"idempotentHint": True})
async def length(text: str) -> int:
    """Takes what is long."""
    return len(text)


@server.tool(annotations={"readOnlyHint": True})
async def poison() -> None:
    """Ends the server."""
    note("poison")
    os.kill(os.getpid(), signal.SIGKILL)


@server.tool()
async def once(n: int, wait: float = 0.0) -> int:
    """Does not say that it may be called twice."""
    note(f"once {n}")
    await asyncio.sleep(wait)
    return n


@server.tool()
async def forget() -> None:
    """Tells when nobody waits for it any more."""
    note("begun")
    try:
        await asyncio.sleep(60)
    finally:
        note("forgotten")


@server.tool()
async def crowd(context: Context) -> dict[str, int]:
    """How many peers there were, and how many of them were here at once."""
    peers.add(context.peer.number)
    running[0] += 1
    running[1] = max(running)
    await asyncio.sleep(0.005)
    running[0] -= 1
    return {"peers": len(peers), "at_once": running[1]}


@server.tool()
async def busy(name: str, times: int, retry_after_ms: int = 20, kind: str = "queue") -> int:
    """Is too busy for the first calls of this name."""
    refused[name] = refused.get(name, -1) + 1
    if refused[name] >= times:
        return refused[name]
    if kind == "engine":
        raise EngineError("the engine died", "Call again", retry_after_ms)
    raise BusyError("too much waits already", "Call again later", retry_after_ms, kind)


@server.tool()
async def told(context: Context) -> dict[str, float | bool | None]:
    """What the server knows of this call."""
    await context.progress(1, 2, "half way")
    return {"deadline_ms": context.deadline_ms, "background": context.background}


@server.tool()
async def fail() -> None:
    """Fails."""
    raise ValueError("as you wish")


@server.tool()
async def learn(name: str) -> None:
    """Adds a tool."""
    server.tool(name)(lambda: name)


@server.resource("note://one")
async def one() -> str:
    """A note."""
    return "hello"


@server.resource("note://bytes", mime_type="application/octet-stream")
async def some() -> bytes:
    """Bytes."""
    return bytes(range(256))


@server.tool()
async def rewrite() -> None:
    """Changes the note."""
    server.updated("note://one")


server.tool(MORE)(lambda: MORE)
server.run(listen=f"127.0.0.1:{PORT}")
