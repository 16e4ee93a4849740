"""A device for the gateway's tests with a tool, a resource, a prompt and a completion, run as a program.

Its arguments are the port and what its tool says of itself.
"""

import asyncio
import sys

from edge_mcp import Context, Server

server = Server("offering", models=False)
counted = [0]


@server.tool(description=sys.argv[2])
async def count(context: Context, to: int = 1) -> int:
    await context.progress(1, 2, "half")
    counted[0] += to
    server.updated("test://count")
    await context.progress(2, 2, "all")
    return counted[0]


@server.tool(annotations={"readOnlyHint": True})
async def wait() -> str:
    """Never answers, and counts who gives up."""
    try:
        await asyncio.sleep(600)
    finally:
        counted[0] += 1000
        server.updated("test://count")
    return ""


@server.resource("test://count")
def current() -> str:
    return str(counted[0])


@server.resource("test://twice/{number}")
def twice(number: str) -> str:
    return number * 2


@server.prompt()
def greet(whom: str) -> str:
    """Greets."""
    return f"Greet {whom}."


@server.completion("greet", "whom")
def whom(value: str, known: object) -> list[str]:
    return [name for name in ("Ada", "Alan") if name.startswith(value)]


server.run(listen=f"127.0.0.1:{sys.argv[1]}")
