"""How to connect to a device by its URL, or by its name in the network."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from edge_mcp.errors import ConfigError

if TYPE_CHECKING:
    from edge_mcp.client.known import Known
    from edge_mcp.client.websocket import WebSocketServer

PIN = "#fingerprint="


def dialling(
    url: str,
    token: str = "",
    fingerprint: str = "",
    say: Callable[[str], None] = print,
    encodings: Sequence[str] = ("json",),
    device: "Known | None" = None,
) -> "Callable[[], Awaitable[WebSocketServer]]":
    """What connects to `url`, which may end in `#fingerprint=SHA256`, showing `token` if there is one; or to the device with
    this name, which is looked for each time (see resolve.py). `say` tells of a device that is new here, of which is remembered
    what it showed, as that of `device`. `encodings` as of WebSocketServer.connect.

    Raises: ConfigError, now and when it connects.
    """
    url, _, pin = url.partition(PIN)
    pin = fingerprint or pin
    if "/" not in url and ":" not in url:
        from edge_mcp.client.resolve import is_name

        if is_name(url):
            return _by_name(url, token, pin, say, encodings)
    if not url.startswith("wss://"):
        if pin:
            raise ConfigError(f"{url} has no certificate", "A fingerprint goes with wss://")

        async def dial() -> "WebSocketServer":
            from edge_mcp.client.websocket import WebSocketServer  # aiohttp is for those who connect

            return await WebSocketServer.connect(url, token=token, encodings=encodings)

        return dial
    from edge_mcp.client.known import KnownDevices
    from edge_mcp.client.trust import Trust

    trust = Trust(url, KnownDevices(), say, pin, device)

    async def dial_trusted() -> "WebSocketServer":
        from edge_mcp.client.websocket import WebSocketServer

        try:
            return await WebSocketServer.connect(url, token=token, tls=await trust.context(), encodings=encodings)
        except ConfigError:
            trust.check()
            raise

    return dial_trusted


def _by_name(
    name: str, token: str, pin: str, say: Callable[[str], None], encodings: Sequence[str]
) -> "Callable[[], Awaitable[WebSocketServer]]":
    """See dialling. Raises: ConfigError."""
    from edge_mcp.client.known import Known, KnownDevices
    from edge_mcp.client.resolve import admitted, find, parted
    from edge_mcp.client.trust import digest_of

    pin = digest_of(pin) if pin else ""
    known = KnownDevices()

    async def dial() -> "WebSocketServer":
        found = await find(name, known)
        target = admitted(found, token, pin, known, chosen=bool(parted(name)[1]))
        device = Known(target.id, target.name)
        return await dialling(target.url, target.token, target.fingerprint, say, encodings, device)()

    return dial
