"""How to connect to a device by its URL."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from edge_mcp.errors import ConfigError

if TYPE_CHECKING:
    from edge_mcp.client.websocket import WebSocketServer

PIN = "#fingerprint="


def dialling(
    url: str, token: str = "", fingerprint: str = "", say: Callable[[str], None] = print, encodings: Sequence[str] = ("json",)
) -> "Callable[[], Awaitable[WebSocketServer]]":
    """What connects to `url`, which may end in `#fingerprint=SHA256`, showing `token` if there is one; `say` tells of a
    device that is new here. `encodings` as of WebSocketServer.connect.

    Raises: ConfigError, now and when it connects.
    """
    url, _, pin = url.partition(PIN)
    pin = fingerprint or pin
    if not url.startswith("wss://"):
        if pin:
            raise ConfigError(f"{url} has no certificate", "A fingerprint goes with wss://")

        async def dial() -> "WebSocketServer":
            from edge_mcp.client.websocket import WebSocketServer  # aiohttp is for those who connect

            return await WebSocketServer.connect(url, token=token, encodings=encodings)

        return dial
    from edge_mcp.client.trust import Trust
    from edge_mcp.config import data_folder

    trust = Trust(url, data_folder() / "known-devices", say, pin)

    async def dial_trusted() -> "WebSocketServer":
        from edge_mcp.client.websocket import WebSocketServer

        try:
            return await WebSocketServer.connect(url, token=token, tls=await trust.context(), encodings=encodings)
        except ConfigError:
            trust.check()
            raise

    return dial_trusted
