"""A device for the gateway's tests: a server with function tools, run as a program.

Its arguments are the port, its name, a file that gets a line for each call, and how many times slower than others it is.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from edge_mcp import Context, Server
from edge_mcp.errors import BusyError, EngineError

PORT, NAME, CALLS, SLOWER = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])
server = Server(NAME, models=False)
one_at_a_time = asyncio.Lock()
refusals = [0]


def note(line: str) -> None:
    with CALLS.open("a") as file:
        file.write(f"{line}\n")


@server.tool(annotations={"readOnlyHint": True})
async def work(n: int, ms: float = 5.0) -> dict[str, Any]:
    """Takes its time, one call after the other."""
    note(f"work {n}")
    async with one_at_a_time:
        await asyncio.sleep(ms * SLOWER / 1000)
    return {"n": n, "by": NAME}


@server.tool()
async def once(n: int, ms: float = 0.0) -> dict[str, Any]:
    """Does not say that it may be called twice."""
    note(f"once {n}")
    await asyncio.sleep(ms / 1000)
    return {"n": n, "by": NAME}


@server.tool(annotations={"readOnlyHint": True})
async def forget() -> str:
    """Tells when nobody waits for it any more."""
    note("begun")
    try:
        await asyncio.sleep(60)
    finally:
        note("forgotten")
    return NAME


@server.tool(annotations={"readOnlyHint": True})
async def refuse(on: str, reason: str = "queue", retry_after_ms: int = 100, times: int = 1_000_000) -> str:
    """Refuses on the devices named, so many times."""
    note(f"refuse {reason}")
    if NAME in on.split() and refusals[0] < times:
        refusals[0] += 1
        if reason == "engine":
            raise EngineError("the engine died", "Call again", retry_after_ms)
        raise BusyError("too much waits already", "Call again later", retry_after_ms, reason)
    return NAME


@server.tool(annotations={"readOnlyHint": True})
async def told(context: Context) -> dict[str, Any]:
    """What the device knows of the call."""
    for step in (1, 2, 3):
        await context.progress(step, 3, f"step {step}")
    return {"deadline_ms": context.deadline_ms, "background": context.background, "can": sorted(context.capabilities)}


@server.tool(annotations={"readOnlyHint": True})
async def listens(n: int, stream: str = "", ms: float = 0.0) -> dict[str, Any]:
    """Goes on with a stream."""
    note(f"listens {n} {stream}")
    await asyncio.sleep(ms / 1000)
    return {"by": NAME, "stream": stream}


@server.tool()
async def asks(context: Context) -> dict[str, Any]:
    """Asks the user, twice."""
    first = await context.elicit("May I?", {"type": "object", "properties": {"yes": {"type": "boolean"}}}, "first")
    second = await context.elicit("Really?", {"type": "object", "properties": {"yes": {"type": "boolean"}}}, "second")
    note("asked")
    return {"by": NAME, "first": first, "second": second}


@server.tool(annotations={"readOnlyHint": True})
async def size(data: str) -> dict[str, Any]:
    """Takes what is long and gives it back."""
    return {"data": data, "by": NAME}


@server.tool(annotations={"readOnlyHint": True})
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
    return NAME


@server.resource("note://{number}/text")
async def numbered(number: str) -> str:
    """A note of many."""
    return number


@server.prompt()
async def greet() -> str:
    """Says hello."""
    return "hello"


server.run(listen=f"127.0.0.1:{PORT}")
