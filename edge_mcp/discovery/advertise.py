"""Says in the network where this device is and what it offers (RFC 6762, 6763), and takes it back at the end.

Nothing here is worth stopping a server for: what goes wrong is logged once, and tried again when the network has changed.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from zeroconf import Error, IPVersion, ServiceInfo, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from edge_mcp.discovery import interfaces
from edge_mcp.discovery.advert import ALIAS, SERVICE, Advert

logger = logging.getLogger(__name__)

DAMP_S = 1.0
"""Changes of the catalogue come in swarms."""
LOAD_S = 30.0
"""Another load alone is not told sooner after what was told last."""
RETRY_S, MOST_RETRY_S = 5.0, 600.0
PROBES, PROBE_S, MOST_DELAY_S = 3, 0.25, 0.1
QUICK_CONFLICTS = 15
SLOW_S = 5.0
"""After so many names that others have, the next ones are tried so slowly (RFC 6762, 9)."""
GOODBYE_S = 2.0
_EVERYWHERE = ("*", "0.0.0.0", "::")  # noqa: S104 - recognised, not listened on

Tell = Callable[[], Awaitable[Advert]]


class Place(NamedTuple):
    """Where a device is: the instance `name`, what its `host` is called, the `address` it listens on, and the `port`."""

    name: str
    host: str
    address: str
    port: int


class Advertiser:
    """Advertises what `tell` says, on the interfaces of the network or on the `named` ones, as long as `run` runs.

    `changed`: something that `tell` says may be another now.
    """

    def __init__(
        self,
        place: Place,
        tell: Tell,
        named: Sequence[str] = (),
        look: Callable[[], list[interfaces.Interface]] = interfaces.interfaces,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._place = place
        self._tell = tell
        self._named = named
        self._look = look
        self._wait = wait
        self._zeroconf: AsyncZeroconf | None = None
        self._name = place.name
        self._told: Advert | None = None
        self._addresses: tuple[str, ...] = ()
        self._poked = asyncio.Event()
        self._moved = asyncio.Event()
        self._said = ""

    def changed(self) -> None:
        """See the class."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled; then what was said is taken back."""
        if not logger.isEnabledFor(logging.DEBUG):
            logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # what is wrong is said here, once
        watching = self._watch()
        try:
            for failures in count():
                try:
                    await self._follow()
                except (OSError, Error, RuntimeError, ValueError, AssertionError) as error:
                    self._say(f"this device is not advertised in the network: {error or type(error).__name__}")
                await self._leave()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(MOST_RETRY_S, RETRY_S * 2.0 ** min(failures, 20))):
                        await self._moved.wait()
        finally:
            if watching is not None:
                watching.close()
            await self._leave()

    # One life

    async def _follow(self) -> None:
        """Advertise, and follow what changes. Raises: OSError, zeroconf.Error and what else that library does."""
        self._moved.clear()
        await self._enter(self._own())
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            waiting = [asyncio.create_task(event.wait()) for event in (self._poked, self._moved)]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            moved = self._moved.is_set()
            if not moved:
                await self._wait(DAMP_S)
            self._poked.clear()
            self._moved.clear()
            advert = await self._tell()
            if moved:
                await self._move(advert)
            elif advert == self._told:
                continue
            elif self._is_load(advert) and told_at + LOAD_S > loop.time():
                loop.call_at(told_at + LOAD_S, self._poked.set)
                continue
            else:
                await self._update(advert)
            told_at = loop.time()

    async def _enter(self, addresses: tuple[str, ...]) -> None:
        if not addresses:
            raise OSError("there is no network")
        advert = await self._tell()
        self._zeroconf = AsyncZeroconf(list(addresses), ip_version=_version(addresses))
        await self._zeroconf.zeroconf.async_wait_for_start()
        self._addresses = addresses
        infos = await self._claimed(self._zeroconf.zeroconf, advert)
        said = [await self._zeroconf.async_register_service(info, cooperating_responders=True) for info in infos]
        self._told = advert
        self._subtypes(advert)
        await asyncio.gather(*said)
        self._said = ""
        logger.info("advertised as %s at %s", self._name, ", ".join(addresses))

    async def _claimed(self, zeroconf: Zeroconf, advert: Advert) -> list[ServiceInfo]:
        """The services under a name that nobody else has. The library asks for one after the other, half as fast as RFC 6762,
        8.1, has it, and where names are taken without a pause."""
        await self._wait(random.uniform(0, MOST_DELAY_S))  # noqa: S311 - so that not all ask at once after a power cut
        conflicts = 0
        while not await self._free(zeroconf, infos := [self._info(service, advert) for service in (SERVICE, ALIAS)]):
            conflicts += 1
            self._name = f"{self._place.name} ({conflicts + 1})"
            if conflicts >= QUICK_CONFLICTS:
                await self._wait(SLOW_S)
        return infos

    async def _free(self, zeroconf: Zeroconf, infos: Sequence[ServiceInfo]) -> bool:
        for _ in range(PROBES):
            for info in infos:
                zeroconf.async_send(zeroconf.generate_service_query(info))
            await self._wait(PROBE_S)
            if any(zeroconf.cache.current_entry_with_name_and_alias(info.type, info.name) for info in infos):
                return False
        return True

    async def _move(self, advert: Advert) -> None:
        """The network is another one, perhaps."""
        addresses = self._own()
        if addresses == self._addresses and advert == self._told:
            return
        if not addresses or self._zeroconf is None:
            raise OSError("there is no network")
        await self._zeroconf.async_update_interfaces(list(addresses), _version(addresses))
        self._addresses = addresses
        await self._update(advert)
        logger.info("advertised at %s from now on", ", ".join(addresses))

    async def _update(self, advert: Advert) -> None:
        self._told = advert
        if self._zeroconf is not None:
            for service in (SERVICE, ALIAS):
                await (await self._zeroconf.async_update_service(self._info(service, advert)))
            self._subtypes(advert)

    def _subtypes(self, advert: Advert) -> None:
        """Who asks for devices with one kind of input is answered (RFC 6763, 7.1). The library keeps services by name, and a
        subtype is another pointer to the same one: so each has a key of its own."""
        assert self._zeroconf is not None  # noqa: S101 - narrows the type for mypy
        registry = self._zeroconf.zeroconf.registry
        for info in registry.async_get_service_infos():
            if "._sub." in info.type:
                registry.async_remove(info)
        for kind in advert.kinds:
            info = self._info(SERVICE, advert, f"_{kind}._sub.{SERVICE}")
            info.key = f"{info.key} {kind}"
            registry.async_add(info)

    async def _leave(self) -> None:
        """Say goodbye, as far as there is a network to say it in."""
        zeroconf, self._zeroconf = self._zeroconf, None
        self._told = None
        if zeroconf is None:
            return
        with suppress(OSError, Error, RuntimeError, AssertionError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await zeroconf.async_unregister_all_services()
        with suppress(OSError, Error, RuntimeError):
            await zeroconf.async_close()

    # Parts

    def _watch(self) -> interfaces.Changes | None:
        try:
            return interfaces.Changes(self._moved.set)
        except OSError as error:
            self._say(f"changes of the network are not followed: {error.strerror}")
            return None

    def _own(self) -> tuple[str, ...]:
        """The addresses that are advertised. Raises: OSError."""
        found = [address for one in interfaces.of_the_network(self._look(), self._named) for address in one.addresses]
        where = self._place.address
        if where not in _EVERYWHERE:
            return tuple(address for address in found if address == where)
        return tuple(address for address in found if where != "0.0.0.0" or ":" not in address)  # noqa: S104 - recognised

    def _info(self, service: str, advert: Advert, type_: str = "") -> ServiceInfo:
        return ServiceInfo(
            type_ or service,
            f"{self._name}.{service}",
            port=self._place.port,
            properties=advert.encoded() if service == SERVICE else advert.alias(self._name),
            server=f"{self._place.host}.local.",
            parsed_addresses=list(self._addresses),
        )

    def _is_load(self, advert: Advert) -> bool:
        """Whether nothing but the load is another one."""
        return self._told is not None and replace(advert, load=self._told.load) == self._told

    def _say(self, line: str) -> None:
        """Once, as long as nothing else happens."""
        if line != self._said:
            logger.warning("%s", line)
        self._said = line


def _version(addresses: Sequence[str]) -> IPVersion:
    both = {":" in address for address in addresses}
    return IPVersion.All if len(both) == 2 else IPVersion.V6Only if True in both else IPVersion.V4Only
