"""From a device's name to where it is, and what it has to prove before it gets to see a token.

An advert is an address, never trust: whoever is in the network can take any name and any id. So a name leads to the device that
is known by it (see known.py), which then proves its certificate; one that says it is that device, with another id or key, is
refused. A device that is not known may be used, as far as it asks for no token.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_mcp.client.known import KnownDevices
from edge_mcp.errors import ConfigError

if TYPE_CHECKING:
    from edge_mcp.discovery.found import Found

PATIENCE_S = 3.0
"""How long a name is looked for: the first question is asked after 20 to 120 ms, the second a second later."""
TWINS_S = 0.25
"""How long after a device that is not known another one of its name may answer."""
REACH_S = 3.0
_NEXT_ADDRESS_S = 0.2  # RFC 8305, 5
_LISTED = 12
_ID = re.compile(r"[0-9a-f]{16}")
_PART = re.compile(r"(.*)@([0-9a-f]{4,16})")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a device is, the token to show it, if any, and the fingerprint that its certificate has to have, if it is known."""

    name: str
    id: str
    url: str
    token: str = ""
    fingerprint: str = ""


class Looking(Protocol):
    """What finds devices; see discovery/browse.py."""

    changed: list[Callable[[], None]]
    problem: str

    @property
    def found(self) -> Mapping[tuple[str, str], "Found"]:
        """By name and id."""
        ...


def is_name(text: str) -> bool:
    """Whether this is the name of a device, not an address: `NAME`, `NAME@ID` or an id."""
    return bool(text) and not any(sign in text for sign in "/:.")


def target(found: "Found", known: KnownDevices, chosen: bool = False) -> Target:
    """Where to connect to a device that was found. `chosen`: the user named its id, which need not be that of the one
    known by its name.

    Raises: ConfigError when it says that it is a device which is known to be another.
    """
    name, advert = found.name, found.advert
    device = known.get(found.id)
    if device is None:
        others = [other.id for other in known.named(name) if other.id]
        if others and not chosen:
            raise ConfigError(
                f"{name} has the id {found.id}, but the device that is known by this name has {others[0]}",
                f"If they are two devices, write {name}@{found.id}",
            )
        return Target(name, found.id, found.url)
    forget = f"If it was set up anew, forget what was: edge-mcp discover --forget {found.id}"
    if device.fingerprint and not advert.tls:
        raise ConfigError(f"{name} had a certificate, and now has none. Another device may pose as it", forget)
    if device.fingerprint and not device.fingerprint.startswith(advert.fingerprint):
        raise ConfigError(f"{name} says that it has another certificate than before. Another device may pose as it", forget)
    if device.token and not device.fingerprint and advert.tls:
        raise ConfigError(f"{name} had no certificate when it gave its token, and now has one. Pair with it anew", forget)
    return Target(name, found.id, found.url, device.token, device.fingerprint)


def parted(name: str) -> tuple[str, str]:
    """`NAME@ID`, or an id alone, as name and how the id begins."""
    if _ID.fullmatch(name):
        return "", name
    parts = _PART.fullmatch(name)
    return (parts[1], parts[2]) if parts else (name, "")


def labels(found: Iterable["Found"]) -> list[str]:
    """How to write each device: by its name, and its id where the name is that of several."""
    devices = list(found)
    names = [device.name.lower() for device in devices]
    return [device.name if names.count(device.name.lower()) == 1 else f"{device.name}@{device.id}" for device in devices]


async def resolve(name: str, known: KnownDevices | None = None, patience_s: float = PATIENCE_S) -> Target:
    """Where the device with this name (or `NAME@ID`, or id) is now. Raises: as find."""
    known = known or KnownDevices()
    found = await find(name, known, patience_s)
    return target(found, known, bool(parted(name)[1]))


async def find(name: str, known: KnownDevices, patience_s: float = PATIENCE_S) -> "Found":
    """The device with this name, at its address that answers first, as soon as it is found.

    Raises: ConfigError when it is not there (its cause is then a TimeoutError), when several have that name, and as target.
    """
    from edge_mcp.discovery.browse import Browser  # zeroconf is for those who look

    wanted = {parted(name)[0].lower(), *(device.name.lower() for device in known.named(name))}
    async with Browser(lambda other: other.lower() in wanted) as browser:
        found = await among(browser, name, known, patience_s)
    if len(found.addresses) == 1:
        return found
    address, _ = await reach(found)
    return found.at(address) if address else found


async def among(browser: Looking, name: str, known: KnownDevices, patience_s: float) -> "Found":
    """The device with this name, of those that a browser finds within `patience_s`. Raises: as find."""
    changed = asyncio.Event()
    browser.changed.append(changed.set)
    refusal: ConfigError | None = None
    deadline: float = time.monotonic() + patience_s
    try:
        while True:
            fitting, refusal = _fitting(browser, name, known)
            trusted = [found for found in fitting if known.get(found.id)]
            if len(trusted) == 1:
                return trusted[0]
            if fitting and time.monotonic() + TWINS_S < deadline:
                deadline = time.monotonic() + TWINS_S  # once: it only ever comes nearer
            left_s = deadline - time.monotonic()
            changed.clear()
            if left_s <= 0:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await changed.wait()
    finally:
        browser.changed.remove(changed.set)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{len(fitting)} devices have the name {name}", f"Write one of: {_listed(labels(fitting))}")
    if refusal is not None:
        raise refusal
    raise _nothing(browser, name) from TimeoutError()


def _fitting(browser: Looking, name: str, known: KnownDevices) -> "tuple[list[Found], ConfigError | None]":
    """Those that may be the one that is meant; and why not, of one that says it is."""
    start, id_ = parted(name)
    fitting, refusal = [], None
    for found in list(browser.found.values()):
        if (not start or found.name.lower() == start.lower()) and found.id.startswith(id_):
            try:
                target(found, known, bool(id_))
                fitting.append(found)
            except ConfigError as error:
                refusal = error
    return fitting, refusal


def _nothing(browser: Looking, name: str) -> ConfigError:
    if browser.problem:
        return ConfigError(f"{name} cannot be found: {browser.problem}")
    others = sorted(labels(browser.found.values()))
    hint = f"There are {_listed(others)}" if others else "Nor any other device: name its address, such as ws://HOST:8765/mcp"
    return ConfigError(f"no device {name} is found in this network", hint)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


async def reach(found: "Found", within_s: float = REACH_S) -> tuple[str, float]:
    """The address at which a device takes a connection first, the best one having a head start, and after how many seconds
    it did; an empty one when none does."""

    async def knock(address: str, wait_s: float) -> tuple[str, float]:
        await asyncio.sleep(wait_s)
        begun = time.perf_counter()
        _, writer = await asyncio.open_connection(address, found.port)
        took_s = time.perf_counter() - begun
        writer.close()
        return address, took_s

    tries = [asyncio.create_task(knock(one, number * _NEXT_ADDRESS_S)) for number, one in enumerate(found.addresses)]
    try:
        async with asyncio.timeout(within_s):
            for attempt in asyncio.as_completed(tries):
                with suppress(OSError):
                    return await attempt
    except TimeoutError:
        pass
    finally:
        for attempt in tries:
            attempt.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    return "", 0.0


def admitted(found: "Found", given: str, pin: str, known: KnownDevices, chosen: bool) -> Target:
    """The target with the token that it gets to see: its own, or the one that the user has `given`, if it is known who it is:
    by its fingerprint, of which the user may have given the `pin`, or because it was paired with as it is, without TLS.

    Raises: ConfigError when it asks for a token and is not known.
    """
    one = target(found, known, chosen)
    is_known = bool(pin or one.fingerprint or one.token)
    if pin and not found.advert.tls:
        raise ConfigError(f"{found.name} has no certificate", "Leave --fingerprint out, or start it with --tls")
    if not is_known and found.advert.auth != "none":
        raise ConfigError(
            f"{found.name} asks for a token and is not known here, so it gets to see none",
            f"Pair with it: edge-mcp pair {found.name}. Or name its certificate (--fingerprint), or its address: {found.url}",
        )
    return Target(one.name, one.id, one.url, (given or one.token) if is_known else "", pin or one.fingerprint)
