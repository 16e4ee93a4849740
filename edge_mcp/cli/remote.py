"""A server at an address, and the token that it gets to see."""

import os

from edge_mcp import tokens
from edge_mcp.client.websocket import WebSocketServer


async def connected(url: str, token_file: str) -> WebSocketServer:
    """Connect. Raises: ConfigError."""
    return await WebSocketServer.connect(url, token=token_for(token_file, url))


def token_for(file: str, url: str) -> str:
    """The token to show. This device's own is for servers on this device: nobody else gets to see it."""
    if file or tokens.VARIABLE in os.environ or _host(url) in ("localhost", "127.0.0.1", "::1"):
        return tokens.find(file)
    return ""


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
