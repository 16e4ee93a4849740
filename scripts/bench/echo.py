"""A trivial tool, `echo`, on each server that is compared (`calls`), and on ours one that does nothing (`lone`).

    echo.py edge-mcp|mcp|fastmcp [PORT]

Serves standard input and output, or with PORT Streamable HTTP on http://127.0.0.1:PORT/mcp. Written as users of each library
would, and in the peers' favour: an async tool (a sync one goes through a thread), answers in JSON and not in a stream of
events, logging from errors on.
"""

import os
import sys
from typing import Any


async def echo(item: dict[str, Any]) -> dict[str, Any]:
    """Give an object back."""
    return item


async def nothing(item: dict[str, Any]) -> dict[str, Any]:
    """For `lone`: what is left when nothing is done."""
    return {}


def edge_mcp(port: int | None) -> None:
    """edge-mcp's Python API."""
    from edge_mcp import Server

    server = Server("echo", models=False)
    server.tool()(echo)
    server.tool()(nothing)
    server.run(stdio=port is None, listen=None if port is None else f"127.0.0.1:{port}")


def mcp(port: int | None) -> None:
    """The official SDK."""
    from mcp.server import MCPServer

    server = MCPServer("echo", log_level="ERROR")
    server.tool()(echo)
    if port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", port=port, json_response=True)


def fastmcp(port: int | None) -> None:
    """FastMCP."""
    os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
    os.environ.setdefault("FASTMCP_LOG_LEVEL", "ERROR")
    from fastmcp import FastMCP

    server = FastMCP("echo")
    server.tool(echo)
    if port is None:
        server.run("stdio", show_banner=False)
    else:
        server.run("http", show_banner=False, port=port, json_response=True, log_level="error")


if __name__ == "__main__":
    SERVERS = {"edge-mcp": edge_mcp, "mcp": mcp, "fastmcp": fastmcp}
    SERVERS[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else None)
