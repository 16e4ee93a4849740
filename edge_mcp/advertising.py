"""A server that is advertised in the network: what is said of it, and when that is another."""

import asyncio
import hashlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

import edge_mcp
from edge_mcp.changes import TOOLS, Change, Changes
from edge_mcp.config import Config
from edge_mcp.discovery.advert import Advert
from edge_mcp.discovery.identity import device_id, instance_name
from edge_mcp.discovery.interfaces import interfaces
from edge_mcp.listeners import Opened
from edge_mcp.protocol.messages import ToolDefinition
from edge_mcp.protocol.versions import LEGACY, MODERN
from edge_mcp.transports.access import is_loopback

logger = logging.getLogger(__name__)


class Offer(NamedTuple):
    """What a server has: its tools, what kinds of input its models take, and its load (0 to 3)."""

    tools: Sequence[ToolDefinition]
    kinds: Sequence[str] = ()
    load: int = 0


class Advertising:
    """Of one server, from `start` to `close`; nothing happens where it can be reached from this machine only.

    `hosts` are names by which peers call this machine that found it so. Nothing here raises: a server serves also where it
    cannot be found.
    """

    def __init__(self, config: Config, offer: Callable[[], Awaitable[Offer]]) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Something of the offer may be another now."""
        self.hosts: tuple[str, ...] = ()
        self._config = config
        self._offer = offer
        self._task: asyncio.Task[None] | None = None
        self._id = ""
        if config.mdns and not is_loopback(config.address()[0]):
            try:
                self._id = device_id(interfaces())
            except OSError as error:
                logger.warning("this device is not advertised in the network: %s", error.strerror or error)
                return
            self.hosts = (f"edge-mcp-{self._id}.local",)

    def start(self, opened: Opened, changes: Changes) -> None:
        """Peers can connect."""
        if not self._id:
            return
        try:
            from edge_mcp.discovery.advertise import Advertiser, Place  # zeroconf is for those who are in a network
        except ImportError as error:
            logger.warning("this device is not advertised in the network: %s", error)
            return
        name = instance_name(self._config.name or socket.gethostname().partition(".")[0], self._id)
        place = Place(name, self.hosts[0].removesuffix(".local"), opened.host, opened.port)
        advertiser = Advertiser(place, lambda: self._advert(opened), self._config.mdns_interfaces)
        self.changed = advertiser.changed

        def heard(change: Change) -> None:
            if change == TOOLS:
                advertiser.changed()

        unlisten = changes.listen(heard)
        self._task = asyncio.create_task(advertiser.run())
        self._task.add_done_callback(lambda _: unlisten())

    async def close(self) -> None:
        """Say goodbye. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            (ended,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(ended, Exception):
                logger.error("this device was not advertised any more: %s: %s", type(ended).__name__, ended)
            self._task = None

    async def _advert(self, opened: Opened) -> Advert:
        offer = await self._offer()
        return Advert(
            id=self._id,
            version=edge_mcp.__version__,
            revisions=(MODERN[-1], LEGACY[-1]),
            transports=("http", "ws"),
            tls=bool(opened.fingerprint),
            fingerprint=opened.fingerprint.removeprefix("sha256:")[:32],
            auth="token" if opened.token else "none",
            pairing=opened.pairing,
            tools=len(offer.tools),
            catalogue=hashlib.sha256(msgspec.json.encode(offer.tools)).hexdigest()[:8],
            load=offer.load,
            kinds=tuple(sorted(offer.kinds)),
        )
