"""What `edge-mcp discover` knows of the devices that are found: whether they are who they are known to be, and how far away."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

from edge_mcp.client.known import KnownDevices
from edge_mcp.client.resolve import labels, reach, target
from edge_mcp.client.trust import Trust
from edge_mcp.discovery.browse import Browser
from edge_mcp.discovery.found import Found
from edge_mcp.errors import ConfigError

EVERY_S = 5.0
_REACH_S = 1.5
_SETTLE_S = 4.0
_AT_ONCE = 32
LOADS = ("NOMINAL", "WARM", "HOT", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Seen:
    """A device: how it is written (`label`), whether it is `known` here, why it is `refused`, if it is; whether it has
    `proved` that it is the one, and how long it took to connect to it, 0 before that and while it is `away`."""

    label: str
    found: Found
    known: bool = False
    refused: str = ""
    proved: bool = False
    away: bool = False
    rtt_ms: float = 0.0

    @property
    def security(self) -> str:
        """In a few words."""
        advert = self.found.advert
        if self.refused:
            return "REFUSED"
        if not advert.tls:
            return "token in the clear" if advert.auth != "none" else "none"
        how = "TLS, proved" if self.proved else "TLS, known" if self.known else "TLS, new"
        return how if advert.auth == "none" else f"{how}, token"

    @property
    def load(self) -> str:
        """In its word."""
        return LOADS[self.found.advert.load] if 0 <= self.found.advert.load < len(LOADS) else str(self.found.advert.load)

    def told(self) -> dict[str, Any]:
        """All of it, for programs."""
        advert = self.found.advert
        return {
            "name": self.found.name,
            "id": self.found.id,
            "url": self.found.url,
            "addresses": list(self.found.addresses),
            "port": self.found.port,
            "version": advert.version,
            "revisions": list(advert.revisions),
            "transports": list(advert.transports),
            "tools": advert.tools,
            "catalogue": advert.catalogue,
            "load": self.load,
            "tls": advert.tls,
            "fingerprint": advert.fingerprint,
            "auth": advert.auth,
            "pairing": advert.pairing,
            "known": self.known,
            "proved": self.proved,
            "refused": self.refused,
            "away": self.away,
            "rtt_ms": round(self.rtt_ms, 2) if self.rtt_ms else None,
        }


class Survey:
    """Within an `async with`, the devices that `browser` finds, as `seen`, by name and id; each is connected to when it is
    found and every few seconds. `changed` is called when anything is another one."""

    def __init__(self, browser: Browser, known: KnownDevices, changed: Callable[[], None] = lambda: None) -> None:
        self.seen: dict[tuple[str, str], Seen] = {}
        self._browser = browser
        self._known = known
        self._changed = changed
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._news = asyncio.Event()

    async def __aenter__(self) -> "Survey":
        self._browser.changed.append(self.look)
        self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._browser.changed.remove(self.look)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def settle(self) -> None:
        """Until each of those that are seen was connected to once, or did not answer; in a flood of them not for all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while any(not (seen.rtt_ms or seen.away) for seen in self.seen.values()):
                    self._news.clear()
                    await self._news.wait()

    def look(self) -> None:
        """What the browser has found may be another now."""
        found = dict(sorted(self._browser.found.items()))
        for key in self.seen.keys() - found.keys():
            del self.seen[key]
            self._tasks.pop(key).cancel()
        for (key, device), label in zip(found.items(), labels(found.values()), strict=True):
            before = self.seen.get(key)
            seen = self._judged(Seen(label, device))
            if before is None:
                self._tasks[key] = asyncio.create_task(self._watch(key))
            elif (before.found.addresses, before.found.port, seen.refused) == (device.addresses, device.port, ""):
                seen = replace(before, label=label, found=device, known=seen.known)
            else:  # what is said of it now is tried soon; until then it is as near, or as far, as it was
                seen = replace(seen, away=before.away, rtt_ms=before.rtt_ms)
            self.seen[key] = seen
        self.seen = {key: self.seen[key] for key in found}
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._changed()

    def _judged(self, seen: Seen) -> Seen:
        """By what is known of it. Raises: ConfigError when that cannot be read."""
        known = self._known.get(seen.found.id) is not None
        try:
            target(seen.found, self._known)
        except ConfigError as error:
            return replace(seen, known=known, refused=str(error))
        return replace(seen, known=known)

    async def _watch(self, key: tuple[str, str]) -> None:
        while True:
            # Whoever else is advertised, those that are known do not wait for them.
            async with nullcontext() if self.seen[key].known else self._room:
                tried = self.seen[key].found
                probed = await self._probed(self.seen[key])
            now = self.seen[key]
            if now.found.addresses != tried.addresses or now.found.port != tried.port:
                continue
            self.seen[key] = replace(probed, label=now.label, found=now.found, known=now.known)
            self._tell()
            await asyncio.sleep(EVERY_S)

    async def _probed(self, seen: Seen) -> Seen:
        """Connected to, without a word; with TLS also the certificate that it shows."""
        address, took_s = await reach(seen.found, _REACH_S)
        if not address:
            return replace(seen, away=True, rtt_ms=0.0)
        seen = replace(self._judged(replace(seen, refused="")), away=False, rtt_ms=took_s * 1000)
        if not seen.found.advert.tls or seen.refused:
            return seen
        try:
            shown = await Trust(seen.found.at(address).url, self._known, lambda _: None).shown()
        except ConfigError as error:
            return replace(seen, refused=str(error))
        device = self._known.get(seen.found.id)
        pinned = device.fingerprint if device else ""
        if pinned and shown != pinned:
            why = f"{seen.label} shows another certificate than the one it is known by. Another device may pose as it"
            return replace(seen, refused=why, proved=False)
        if not shown.startswith(seen.found.advert.fingerprint):
            return replace(seen, refused=f"{seen.label} shows another certificate than it says it has", proved=False)
        return replace(seen, proved=bool(pinned))
