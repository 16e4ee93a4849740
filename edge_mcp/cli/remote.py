"""A server at an address, the token that it gets to see, and whether it is the one that it seems to be."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from edge_mcp import tokens
from edge_mcp.client import dial
from edge_mcp.client.known import KnownDevices, address_key

if TYPE_CHECKING:  # aiohttp is for those who connect
    from edge_mcp.client.websocket import WebSocketServer


async def connected(url: str, token_file: str, say: Callable[[str], None]) -> "WebSocketServer":
    """Connect. Raises: ConfigError."""
    return await dialling(url, token_file, "", say)()


def dialling(
    url: str, token_file: str, fingerprint: str, say: Callable[[str], None]
) -> "Callable[[], Awaitable[WebSocketServer]]":
    """See client.dial, with the token of a file or of this device. Raises: ConfigError, now and when it connects."""
    return dial.dialling(url, token_for(token_file, url.partition(dial.PIN)[0]), fingerprint, say)


def token_for(file: str, url: str) -> str:
    """The token to show: this device's own to servers on this device, and to nobody else; or what the device at this address
    gave when it was paired with. (That it is the same one is proved before, see client.trust.)"""
    own = file or tokens.VARIABLE in os.environ or _host(url) in ("localhost", "127.0.0.1", "::1")
    if own and (token := tokens.find(file)):
        return token
    with suppress(ValueError):
        known = KnownDevices().get(address_key(url))
        return known.token if known else ""
    return ""


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
