"""A server at an address, the token that it gets to see, and whether it is the one that it seems to be."""

import os
from collections.abc import Awaitable, Callable

from edge_mcp import tokens
from edge_mcp.client.websocket import WebSocketServer
from edge_mcp.config import data_folder
from edge_mcp.errors import ConfigError

_PIN = "#fingerprint="


async def connected(url: str, token_file: str, say: Callable[[str], None]) -> WebSocketServer:
    """Connect. Raises: ConfigError."""
    return await dialling(url, token_file, "", say)()


def dialling(
    url: str, token_file: str, fingerprint: str, say: Callable[[str], None]
) -> Callable[[], Awaitable[WebSocketServer]]:
    """What connects to `url`, which may end in `#fingerprint=SHA256`; `say` tells of a device that is new here.

    Raises: ConfigError, now and when it connects.
    """
    url, _, pin = url.partition(_PIN)
    pin = fingerprint or pin
    token = token_for(token_file, url)
    if not url.startswith("wss://"):
        if pin:
            raise ConfigError(f"{url} has no certificate", "A fingerprint goes with wss://")
        return lambda: WebSocketServer.connect(url, token=token)
    from edge_mcp.client.trust import Trust

    trust = Trust(url, data_folder() / "known-devices", say, pin)

    async def dial() -> WebSocketServer:
        try:
            return await WebSocketServer.connect(url, token=token, tls=await trust.context())
        except ConfigError:
            trust.check()
            raise

    return dial


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
