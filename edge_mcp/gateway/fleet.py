"""All devices behind the gateway: found in the network or named, as they come and go."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from edge_mcp.errors import ConfigError
from edge_mcp.gateway.upstream import Dialling, Target, Upstream, to_target

logger = logging.getLogger(__name__)

MAX_DEVICES = 64
MAX_ADDRESSES = 8
"""Of one device that are tried, those included at which somebody else says that he is it."""
FORGET_S = 300.0
"""A found device that is not advertised any more and does not answer is forgotten after so long."""


class Advertised(Protocol):
    """What an advert says; see discovery/advert.py."""

    @property
    def load(self) -> int:
        """0 to 3."""
        ...


class Found(Protocol):
    """A device that was found; see discovery/browse.py."""

    @property
    def name(self) -> str:
        """Of the instance."""
        ...

    @property
    def id(self) -> str:
        """Of the hardware, as it says."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """The best one first."""
        ...

    @property
    def advert(self) -> Advertised:
        """What it says of itself."""
        ...

    def at(self, address: str) -> "Found":
        """The same, with this address as the best one."""
        ...


class Browser(Protocol):
    """Who looks for devices; see discovery/browse.py."""

    changed: list[Callable[[], None]]

    @property
    def found(self) -> Mapping[tuple[str, str], Found]:
        """By name and id."""
        ...


Admit = Callable[[Any], Target]
"""Where to connect to a device that was found, at its best address, and what it has to prove; see client/resolve.py. Raises:
ConfigError for one that is not let in."""


def _nobody(found: Found) -> Target:
    raise ConfigError(f"{found.name} is not known here")


class Fleet:
    """Within an `async with`, the devices that are `named`, and those that `browser` finds and `admit` lets in.

    `upstreams` are by id, at most MAX_DEVICES; `changed` are called with a device that came, went, or is another one, and
    the word of Upstream.changed, or "devices". `shut` are names of devices that were found and not let in, and why not.
    """

    def __init__(
        self,
        named: Iterable[Target] = (),
        browser: Browser | None = None,
        admit: Admit = _nobody,
        dial: Dialling = to_target,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.upstreams: dict[str, Upstream] = {}
        self.shut: dict[str, str] = {}
        self.changed: list[Callable[[Upstream, str], None]] = []
        self._named = list(named)
        self._browser = browser
        self._admit = admit
        self._dial = dial
        self._clock = clock
        self._found: set[str] = set()
        self._leaving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for target in self._named:
            self._add(target, None)
        if self._browser is not None:
            self._browser.changed.append(self.look)
            self.look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._browser is not None:
            self._browser.changed.remove(self.look)
        await asyncio.gather(*(upstream.close() for upstream in self.upstreams.values()), *self._leaving)
        self.upstreams.clear()

    def look(self) -> None:
        """What the browser has found may be another now."""
        here = self._admitted()
        gone, self._found = self._found - here.keys(), set(here)
        for id_, (targets, load) in here.items():
            if id_ in self.upstreams:
                self.upstreams[id_].announce(targets, load)
            elif self._room(targets[0]):
                self._add(targets[0], load)
                self.upstreams[id_].announce(targets, load)
            else:
                self.shut[targets[0].name] = f"there are {MAX_DEVICES} devices already"
        for id_ in gone:
            if id_ in self.upstreams:
                self.upstreams[id_].doubt()
        for upstream in self._strays():
            if self._clock() - upstream.away_since > FORGET_S:
                self._remove(upstream)

    def _admitted(self) -> dict[str, tuple[list[Target], int]]:
        """Those that were found and are let in, by id: the addresses of all that say they are it."""
        named = {urlsplit(target.url).netloc for target in self._named} | {target.id for target in self._named if target.id}
        here: dict[str, tuple[list[Target], int]] = {}
        self.shut = {}
        for found in self._browser.found.values() if self._browser is not None else ():
            try:
                targets = [self._admit(found.at(address)) for address in found.addresses[:MAX_ADDRESSES]]
            except ConfigError as error:
                self.shut[found.name] = str(error)
                continue
            if not any(target.id in named or urlsplit(target.url).netloc in named for target in targets):
                here.setdefault(found.id, ([], found.advert.load))[0].extend(targets)
        return {id_: (targets[:MAX_ADDRESSES], load) for id_, (targets, load) in here.items() if targets}

    def _strays(self) -> list[Upstream]:
        """Those that are neither named nor advertised any more, nor connected; the one longest away first."""
        named = {target.id or target.url for target in self._named}
        strays = [up for id_, up in self.upstreams.items() if id_ not in self._found | named and up.state != "up"]
        return sorted(strays, key=lambda upstream: upstream.away_since)

    def _room(self, target: Target) -> bool:
        """Whether there is room for one more; made by who is gone, and for a known device by one that proved nothing yet."""
        if len(self.upstreams) >= MAX_DEVICES:
            leaving = self._strays()
            if target.fingerprint or target.token:
                others = self.upstreams.values()
                leaving += [up for up in others if up.state != "up" and not up.target.fingerprint and not up.target.token]
            if leaving:
                self._remove(leaving[0])
        return len(self.upstreams) < MAX_DEVICES

    def _add(self, target: Target, load: int | None) -> None:
        upstream = Upstream(target, load, self._dial, self._clock)
        self.upstreams[upstream.id] = upstream
        upstream.changed.append(lambda word: self._tell(upstream, word))
        upstream.start()
        self._tell(upstream, "devices")

    def _remove(self, upstream: Upstream) -> None:
        del self.upstreams[upstream.id]
        closing = asyncio.get_running_loop().create_task(upstream.close())
        self._leaving.add(closing)
        closing.add_done_callback(self._leaving.discard)
        self._tell(upstream, "devices")

    def _tell(self, upstream: Upstream, word: str) -> None:
        for tell in list(self.changed):
            tell(upstream, word)
