"""All devices behind the gateway: named ones, and those that are found, let in or not, and gone."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_mcp.client.link import Dial
from edge_mcp.errors import ConfigError
from edge_mcp.gateway.fleet import FORGET_S, MAX_ADDRESSES, MAX_DEVICES, Fleet
from edge_mcp.gateway.upstream import Target
from edge_mcp.transports.base import Connection
from tests.gateway.devices import Place, replicas, until


@dataclass(frozen=True)
class Said:
    """See fleet.Advertised."""

    load: int = 0


@dataclass(frozen=True)
class Seen:
    """See fleet.Found."""

    name: str
    id: str
    addresses: tuple[str, ...]
    advert: Said = Said()

    def at(self, address: str) -> "Seen":
        return replace(self, addresses=(address,))


class Browser:
    """See fleet.Browser."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Seen] = {}
        self.changed: list[Callable[[], None]] = []

    def finds(self, *devices: Seen) -> None:
        self.found = {(device.name, device.id): device for device in devices}
        for tell in self.changed:
            tell()


def admit(found: Seen) -> Target:
    if found.name == "stranger":
        raise ConfigError("stranger is not known here", "Pair with it")
    return Place(found.name, found.id, f"ws://{found.addresses[0]}/mcp", token="t" if found.name == "known" else "")


def nowhere(target: Target, encodings: Sequence[str]) -> Dial:
    async def dial() -> Connection:
        raise ConfigError(f"{target.url} cannot be reached") from OSError()

    return dial


async def test_devices_come_go_and_come_back(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices:
        a, b = (Seen(device.place.name, device.place.id, (f"127.0.0.1:{device.port}",)) for device in devices)
        browser, told = Browser(), []
        now = 0.0
        async with Fleet(browser=browser, admit=admit, clock=lambda: now) as fleet:
            fleet.changed.append(lambda upstream, word: told.append((upstream.name, word)))
            browser.finds(a)
            await until(lambda: fleet.upstreams and fleet.upstreams["id-a"].state == "up")
            first = fleet.upstreams["id-a"]
            browser.finds(replace(a, advert=Said(3)), b)
            await until(lambda: fleet.upstreams["id-b"].state == "up")
            assert first.load == 3
            assert {("a", "devices"), ("a", "state"), ("a", "load"), ("b", "tools")} <= set(told)
            await devices[0].kill()
            browser.finds(b)
            await until(lambda: first.state == "away")
            now = FORGET_S / 2
            browser.finds(b)
            assert fleet.upstreams["id-a"] is first, "calls may be waiting for it"
            await devices[0].start()
            browser.finds(a, b)
            await until(lambda: first.state == "up")
            browser.finds()
            await asyncio.sleep(0)
            assert len(fleet.upstreams) == 2, "who is connected is there, whatever the network says"
            await devices[1].kill()
            await until(lambda: fleet.upstreams["id-b"].state == "away")
            now += FORGET_S + 1
            browser.finds(a)
            assert list(fleet.upstreams) == ["id-a"]
        assert not browser.changed


async def test_named_devices_are_there_once_and_stay() -> None:
    named = [Place("kitchen", "", "ws://10.0.0.1:8765/mcp"), Place("hall", "7", "ws://10.0.0.2:8765/mcp")]
    browser, now = Browser(), 0.0
    async with Fleet(named, browser, admit, nowhere, lambda: now) as fleet:
        browser.finds(
            Seen("kitchen-1", "1", ("[fe80::1%eth0]:8765", "10.0.0.1:8765")),
            Seen("hall-7", "7", ("10.0.0.9:8765",)),
            Seen("stranger", "3", ("10.0.0.3:8765",)),
        )
        assert list(fleet.upstreams) == ["ws://10.0.0.1:8765/mcp", "7"]
        assert fleet.shut == {"stranger": "stranger is not known here. Pair with it"}
        now = FORGET_S * 2
        browser.finds()
        assert len(fleet.upstreams) == 2
        assert not fleet.shut
    async with Fleet(browser=browser) as fleet:
        browser.finds(Seen("kitchen-1", "1", ("10.0.0.1:8765",)))
        assert list(fleet.shut) == ["kitchen-1"], "nobody is let in unless somebody says who"


async def test_a_flood_of_devices_is_bounded() -> None:
    browser, now = Browser(), 0.0
    async with Fleet([], browser, admit, nowhere, lambda: now) as fleet:
        flood = [Seen(f"d{n}", str(n), (f"10.0.{n // 250}.{n % 250}:1",)) for n in range(MAX_DEVICES + 20)]
        browser.finds(*flood)
        assert len(fleet.upstreams) == MAX_DEVICES
        assert len(fleet.shut) == 20
        browser.finds(*flood[MAX_DEVICES:])
        browser.finds(*flood[MAX_DEVICES:])
        assert {str(n) for n in range(MAX_DEVICES, MAX_DEVICES + 20)} <= fleet.upstreams.keys(), "who is gone makes room"
        browser.finds(*flood[20:], Seen("known", "k", ("10.0.0.1:1",)))
        assert "k" in fleet.upstreams, "who is known goes first"
        many = Seen("d70", "70", tuple(f"10.9.0.{n}:1" for n in range(50)))
        browser.finds(many, replace(many, name="other"))
        assert len(fleet.upstreams["70"]._targets) == MAX_ADDRESSES
