"""The client calls tools of a server that knows nothing of edge-mcp: the official SDK's."""

import asyncio
import sys

from edge_mcp.client.client import Client
from edge_mcp.client.stdio import StdioServer

SERVER = """
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("peer")

@server.tool()
async def add(a: int, b: int, context: Context) -> int:
    await context.report_progress(1, 2, "adding")
    return a + b

@server.tool()
def fail() -> str:
    raise ValueError("not today")

server.run("stdio")
"""


async def test_the_official_server_is_listed_and_called() -> None:
    steps: list[tuple[float, float | None, str]] = []
    official = await StdioServer.start([sys.executable, "-c", SERVER], lambda line: None)
    async with asyncio.timeout(60), Client(official) as client:
        assert client.version == "2026-07-28"
        assert [tool.name for tool in await client.list_tools()] == ["add", "fail"]
        result = await client.call_tool("add", {"a": 40, "b": 2}, lambda *step: steps.append(step))
        assert result.structuredContent == {"result": 42}
        assert steps == [(1, 2, "adding")]
        assert (await client.call_tool("fail", {})).isError
        assert (await client.call_tool("add", {"a": "x"})).isError
