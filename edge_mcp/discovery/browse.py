"""Finds the devices that are advertised in the network. What is found is an address, never trust.

Everybody in the network may say anything here, as often as he likes. So of all that is heard only a bounded part is kept: names
that the caller prefers first, few devices of one address, and the library's own cache is pruned to them.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from errno import EADDRINUSE
from itertools import count
from types import TracebackType
from typing import Self

from zeroconf import (
    Error,
    RecordUpdate,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
    current_time_millis,
)
from zeroconf._dns import DNSAddress, DNSPointer, DNSQuestion, DNSRecord, DNSService, DNSText
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from edge_mcp.discovery import interfaces
from edge_mcp.discovery.advert import SERVICE, advert_of
from edge_mcp.discovery.found import Found, instance, ranked
from edge_mcp.discovery.interfaces import Network

logger = logging.getLogger(__name__)

MAX_FOUND = 256
"""Names that are kept."""
MAX_OF_NAME = 4
"""Devices that say they have one name."""
MAX_OF_ADDRESS = 8
"""Names at one address, unless they are preferred."""
MAX_ADDRESSES = 8
_PRUNE_AFTER = 1000  # records that were heard; the library keeps at most 10,000, and drops those of real devices first
_ASK_MS = 3000
_ASK_AT_ONCE = 16
_SWEEP_S = 10.0
_SILENT_MS = 30_000  # asked for in vain for so long, a device is gone
_RETRY_S = 5.0
_QUERY_EVERY = 6  # sweeps: who was not heard when it came is found then
_TAKEN = "another program has mDNS' port 5353 and does not share it: ss -lunp sport = :5353 says which"
_QUERY, _CLASS_IN, _A, _TXT, _AAAA, _SRV, _ANY = 0, 1, 1, 16, 28, 33, 255

Prefer = Callable[[str], bool]


class Browser:
    """Within an `async with`, the devices in the network.

    `found` has them by name and id: two devices with one name are two. `changed` are called when it is another one. Names that
    `prefer` says yes to have a place whatever else is advertised. `named`: the interfaces to look at, by default all that carry
    a network. One that is not there is no error: `problem` says so, and it is tried again.
    """

    def __init__(self, prefer: Prefer = lambda name: False, named: Iterable[str] = ()) -> None:
        self.found: dict[tuple[str, str], Found] = {}
        self.changed: list[Callable[[], None]] = []
        self.problem = ""
        self._prefer = prefer
        self._interfaces = list(named)
        self._addresses: list[str] = []
        self._networks: list[Network] = []
        self._names: dict[str, float] = {}  # lower case -> when it was last heard, in the library's milliseconds
        self._zeroconf: AsyncZeroconf | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_ASK_AT_ONCE)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._asking.values(), *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stop()

    def _start(self) -> None:
        if not logger.isEnabledFor(logging.DEBUG):
            logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # an interface that takes nothing is no news
        try:
            self._addresses, self._networks = self._own(), interfaces.networks()
            if not self._addresses:
                raise OSError("it has no address")
            self._zeroconf = AsyncZeroconf(self._addresses)
            self._listener = _Listener(self, self._zeroconf.zeroconf)
            self.problem = ""
        except (OSError, Error, RuntimeError) as error:
            self.problem = _TAKEN if getattr(error, "errno", 0) == EADDRINUSE else f"this machine is in no network: {error}"
            logger.debug("%s", self.problem)

    async def _stop(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            with suppress(OSError, Error, RuntimeError):
                await zeroconf.async_close()

    def _own(self) -> list[str]:
        """This machine's addresses in the network. Raises: OSError."""
        return [
            address for one in interfaces.of_the_network(interfaces.interfaces(), self._interfaces) for address in one.addresses
        ]

    async def _run(self) -> None:
        """Follow this machine's own addresses, and look again at what was not heard of for long."""
        moved = asyncio.Event()
        with suppress(OSError), closing(interfaces.Changes(moved.set)):
            await self._look_on(moved)
        await self._look_on(moved)  # where the kernel does not tell of changes

    async def _look_on(self, moved: asyncio.Event) -> None:
        for sweep in count(1):
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S if self._zeroconf is None else _SWEEP_S):
                    await moved.wait()
            moved.clear()
            with suppress(OSError):
                if self._own() != self._addresses:
                    await self._stop()
            if self._zeroconf is None:
                self._start()
                continue
            self._sweep(self._zeroconf.zeroconf)
            if not sweep % _QUERY_EVERY:
                self._listener.query_scheduler.async_send_ready_queries(False, current_time_millis(), {SERVICE})

    # What is heard

    def _pointed(self, pointer: DNSPointer, now: float) -> bool:
        """Whether to look at a name that is told, or told to be gone: if there is a place for it."""
        name = instance(pointer.alias)
        key = name.lower()
        if not name or (key not in self._names and (pointer.is_expired(now) or not self._make_room(name))):
            return False
        self._names[key] = now
        return True

    def _make_room(self, name: str) -> bool:
        """Whether there is a place for one more name: the one silent for longest makes room for one that is preferred."""
        if len(self._names) < MAX_FOUND:
            return True
        if self._prefer(name):
            for other in sorted(self._names, key=self._names.__getitem__):
                if not self._prefer(other):
                    self._forget(other)
                    return True
        return False

    def _look(self, full: str, ask: bool = True) -> None:
        """What the library's cache has of a name may be another now."""
        name = instance(full)
        if self._zeroconf is None or name.lower() not in self._names:
            return
        here = dict(_devices(self._zeroconf.zeroconf, name, full, self._networks))
        if not here and ask:
            self._ask(full)
        # Another device of that name may say that it alone has it: who was there before stays, until it is gone.
        news = {key: found for key, found in here.items() if self.found.get(key) != found and self._fits(found)}
        if news and not self._has(name):
            # Who has the same name says nothing when he hears that another one has told it (RFC 6762, 7.4).
            out = DNSOutgoing(_QUERY)
            out.add_question(DNSQuestion(full, _ANY, _CLASS_IN))
            self._zeroconf.zeroconf.async_send(out)
        self.found.update(news)
        if news:
            self._tell()
        elif here and not self._has(name):
            self._forget(name.lower())

    def _has(self, name: str) -> int:
        """How many devices have a name."""
        return sum(key[0].lower() == name.lower() for key in self.found)

    def _fits(self, found: Found) -> bool:
        """Whether neither its name nor its addresses are those of many others."""
        if (found.name, found.id) in self.found:
            return True
        if self._has(found.name) >= MAX_OF_NAME:
            return False
        taken = Counter(address for other in self.found.values() for address in other.addresses)
        return self._prefer(found.name) or not any(taken[address] >= MAX_OF_ADDRESS for address in found.addresses)

    def _ask(self, full: str) -> None:
        """What was not told with a name is asked for; a name of which nothing is told loses its place."""
        if full not in self._asking:
            self._asking[full] = asyncio.create_task(self._asked(full))

    async def _asked(self, full: str) -> None:
        try:
            async with self._room:
                if self._zeroconf is not None:
                    with suppress(Error, OSError):
                        await AsyncServiceInfo(SERVICE, full).async_request(self._zeroconf.zeroconf, _ASK_MS)
        finally:
            del self._asking[full]
        self._look(full, ask=False)
        if not self._has(name := instance(full)):
            self._names.pop(name.lower(), None)

    def _gone(self, full: str) -> None:
        """A device says goodbye; another one of its name, or one for which somebody else said so, answers now."""
        name = instance(full)
        self._forget(name.lower())
        if self._zeroconf is not None:
            cache = self._zeroconf.zeroconf.cache
            for kind in (_SRV, _TXT):
                cache.async_remove_records(cache.get_all_by_details(full, kind, _CLASS_IN))
        self._names[name.lower()] = current_time_millis()
        self._ask(full)

    def _forget(self, lower: str) -> None:
        self._names.pop(lower, None)
        gone = [key for key in self.found if key[0].lower() == lower]
        for key in gone:
            del self.found[key]
        if gone:
            self._tell()

    def _tell(self) -> None:
        for tell in list(self.changed):
            tell()

    def _sweep(self, zeroconf: Zeroconf) -> None:
        """Ask for what has run out; who does not answer is gone."""
        now = current_time_millis()
        for name in {name for name, _ in self.found}:
            full = f"{name}.{SERVICE}"
            if any(not record.is_expired(now) for record in zeroconf.cache.get_all_by_details(full, _SRV, _CLASS_IN)):
                self._names[name.lower()] = now
            elif now - self._names.get(name.lower(), 0) > _SILENT_MS:
                self._forget(name.lower())
            else:
                self._ask(full)

    def _prune(self, zeroconf: Zeroconf) -> None:
        """Of the library's cache only what is followed is kept."""
        cache = zeroconf.cache
        fulls = {f"{name}.{SERVICE}" for name in self._names}
        servers = {
            record.server_key
            for full in fulls
            for record in cache.get_all_by_details(full, _SRV, _CLASS_IN)
            if isinstance(record, DNSService)
        }
        for key in cache.names():
            if key not in fulls and key not in servers:
                records = list(cache.cache.get(key, {}).values())
                cache.async_remove_records(
                    [one for one in records if not (isinstance(one, DNSPointer) and one.alias_key in fulls)]
                )


class _Listener(AsyncServiceBrowser):
    """The library's browser for what it asks; it does not see the names that are told, of each of which it keeps something."""

    def __init__(self, browser: Browser, zeroconf: Zeroconf) -> None:
        self._browser = browser
        self._heard = 0
        self._pointers: dict[str, bool] = {}
        super().__init__(zeroconf, SERVICE, [self._on_change])

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """See zeroconf.RecordUpdateListener."""
        others = []
        for update in records:
            record = update.new
            if not isinstance(record, DNSPointer):
                others.append(update)
            elif record.key == SERVICE and self._browser._pointed(record, now):
                self._pointers[record.alias] = record.is_expired(now)
        self._heard += len(records)
        super().async_update_records(zc, now, others)

    def async_update_records_complete(self) -> None:
        """See zeroconf.RecordUpdateListener."""
        pointers, self._pointers = self._pointers, {}
        for full, gone in pointers.items():
            (self._browser._gone if gone else self._browser._look)(full)
        super().async_update_records_complete()
        if self._heard >= _PRUNE_AFTER:
            self._heard = 0
            self._browser._prune(self.zc)

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        self._browser._look(name)


def _devices(zeroconf: Zeroconf, name: str, full: str, networks: Sequence[Network]) -> Iterator[tuple[tuple[str, str], Found]]:
    """The devices that say they have this name, by name and id, as far as all is known of them."""
    now = current_time_millis()

    def current(kind: int) -> list[DNSRecord]:
        records = zeroconf.cache.get_all_by_details(full, kind, _CLASS_IN)
        return sorted((one for one in records if not one.is_expired(now)), key=lambda record: record.created)

    services = [record for record in current(_SRV) if isinstance(record, DNSService) and 0 < record.port < 65536]
    for text in current(_TXT)[-MAX_OF_NAME:]:
        if not services or not isinstance(text, DNSText):
            continue
        advert = advert_of(ServiceInfo(SERVICE, full, properties=text.text).properties)
        # What came in one packet belongs together.
        service = min(reversed(services), key=lambda record: abs(record.created - text.created))
        addresses = _addresses(zeroconf, service.server, now, networks)
        if advert is not None and addresses:
            yield (name, advert.id), Found(name, advert.id, advert, addresses, service.port)


def _addresses(zeroconf: Zeroconf, server: str, now: float, networks: Sequence[Network]) -> tuple[str, ...]:
    """Where a server is, best first."""
    records = [
        record
        for kind in (_A, _AAAA)
        for record in zeroconf.cache.get_all_by_details(server, kind, _CLASS_IN)
        if isinstance(record, DNSAddress) and not record.is_expired(now)
    ]
    records.sort(key=lambda record: record.created, reverse=True)
    some = (ranked(one.address, one.scope_id, networks) for one in records[: 4 * MAX_ADDRESSES])
    best = sorted(filter(None, some), key=lambda pair: pair[0])
    return tuple(dict.fromkeys(address for _, address in best))[:MAX_ADDRESSES]
