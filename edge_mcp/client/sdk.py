"""A device as a transport of the official Python SDK (`mcp` 2.x), in this process and with the bridge's patience.

    async with Client(device("ws://raspberrypi.local:8765/mcp", token=TOKEN)) as client: ...

Needs the package `mcp`, which edge-mcp itself does not.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from edge_mcp.client.bridge import Bridge
from edge_mcp.client.bridge_device import Device
from edge_mcp.client.dial import dialling
from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.protocol import jsonrpc
from edge_mcp.transports.base import Frame, Peer

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

logger = logging.getLogger(__name__)

_LEAVE_S = 5.0
_ROOM = 16  # messages on the way before either side waits


@asynccontextmanager
async def device(url: str, token: str = "", fingerprint: str = "") -> "AsyncIterator[TransportStreams]":
    """The streams to the device at `url` (`ws://`, or `wss://` with the certificate of that SHA-256 `fingerprint`; without one
    it is taken at first use, as by the command line), for `mcp.Client`.

    Raises: ConfigError when there is no such device; one that does not answer yet is waited for.
    """
    import anyio
    from mcp.shared.message import SessionMessage

    to_client, from_device = anyio.create_memory_object_stream[SessionMessage | Exception](_ROOM)
    to_device, from_client = anyio.create_memory_object_stream[SessionMessage](_ROOM)
    away = Device(dialling(url, token, fingerprint, logger.warning), logger.warning)
    serving = asyncio.create_task(Bridge(away).serve(_Host(to_client, from_client)))
    serving.add_done_callback(lambda _: to_client.close())  # or the client would wait for one that has ended
    async with to_client, from_device, to_device, from_client:
        try:
            yield from_device, to_device
        finally:
            to_device.close()  # with which the host is done
            with anyio.CancelScope(shield=True):  # whoever leaves may be cancelled itself
                await asyncio.wait([serving], timeout=_LEAVE_S)
                serving.cancel()
                [outcome] = await asyncio.gather(serving, return_exceptions=True)
                await away.close()
    if isinstance(outcome, ConfigError):
        raise outcome


class _Host:
    """The SDK's client as a peer of the bridge; see transports.base.Connection."""

    encoding = "json"
    half_close = False

    def __init__(
        self,
        to_client: "MemoryObjectSendStream[SessionMessage | Exception]",
        from_client: "MemoryObjectReceiveStream[SessionMessage]",
    ) -> None:
        self.peer = Peer("this process")
        self._to_client = to_client
        self._from_client = from_client

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        async for message in self._from_client:
            yield message.message.model_dump_json(by_alias=True, exclude_unset=True).encode()

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        import anyio
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        try:
            message = jsonrpc_message_adapter.validate_json(frame)
        except ValueError:
            logger.warning("the device sent something that is not MCP")
            if about is None or not last:
                return
            # The client would wait for ever.
            said = jsonrpc.error(about, jsonrpc.INTERNAL_ERROR, "the device's answer is not what MCP says")
            message = jsonrpc_message_adapter.validate_json(said)
        try:
            await self._to_client.send(SessionMessage(message))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ConnectionClosed("the client is closed") from error

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        self._to_client.close()
