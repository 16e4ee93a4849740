"""Which device a name is, and what it gets to see: by what is known, whatever is advertised."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.client.known import Known, KnownDevices
from edge_mcp.client.resolve import Target, admitted, among, is_name, labels, parted, reach, target
from edge_mcp.discovery.advert import Advert
from edge_mcp.discovery.found import Found
from edge_mcp.errors import ConfigError

ID, OTHER = "3f2a" * 4, "77aa" * 4
PIN = "4b8fa3845d4b42b32fb64b7b9364fdfc9425efbc96d051e21449688928d3594a"
PLAIN = Found("kitchen-3f2a", ID, Advert(ID), ("192.168.1.31",), 8765)
TLS = replace(PLAIN, advert=Advert(ID, tls=True, fingerprint=PIN[:32], auth="token"))
TWIN = replace(PLAIN, id=OTHER, advert=Advert(OTHER))
KNOWN = Known(ID, "kitchen-3f2a", PIN, "its-token")


class Looking:
    """A browser that has found these."""

    def __init__(self, *found: Found) -> None:
        self.found = {(one.name, one.id): one for one in found}
        self.changed: list[Callable[[], None]] = []
        self.problem = ""

    def hear(self, one: Found) -> None:
        self.found[one.name, one.id] = one
        for tell in self.changed:
            tell()


@pytest.fixture
def known(tmp_path: Path) -> KnownDevices:
    return KnownDevices(tmp_path / "devices.json")


def test_names_are_told_from_addresses() -> None:
    assert all(is_name(text) for text in ("kitchen-3f2a", f"kitchen@{ID}", ID, "Küche 2"))
    assert not any(is_name(text) for text in ("", "ws://a/mcp", "raspberrypi.local", "pi:8765", "a/b", "::1"))
    assert parted(f"kitchen@{ID[:4]}") == ("kitchen", ID[:4])
    assert parted(ID) == ("", ID)
    assert parted("me@home") == ("me@home", "")


@given(st.text(max_size=60))
def test_any_text_has_parts(text: str) -> None:
    name, id_ = parted(text)
    assert text in (name, id_, f"{name}@{id_}")


def test_what_is_not_known_has_nothing_to_prove_and_gets_nothing(known: KnownDevices) -> None:
    assert target(TLS, known) == Target("kitchen-3f2a", ID, "wss://192.168.1.31:8765/mcp")


def test_what_is_known_has_to_prove_it_and_gets_its_token(known: KnownDevices) -> None:
    known.remember(KNOWN)
    assert target(TLS, known) == Target("kitchen-3f2a", ID, "wss://192.168.1.31:8765/mcp", "its-token", PIN)
    renamed = replace(TLS, name="hall")
    assert target(renamed, known).token == "its-token"  # noqa: S105 - nobody's


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (PLAIN, "had a certificate, and now has none"),
        (replace(TLS, advert=Advert(ID, tls=True, fingerprint="0" * 32)), "says that it has another certificate"),
        (TWIN, f"has the id {OTHER}, but the device that is known by this name has {ID}"),
    ],
)
def test_a_known_name_or_id_with_something_else_is_refused(known: KnownDevices, found: Found, why: str) -> None:
    known.remember(KNOWN)
    with pytest.raises(ConfigError, match=why):
        target(found, known)


def test_a_token_of_before_tls_is_not_for_who_shows_a_certificate(known: KnownDevices) -> None:
    known.remember(replace(KNOWN, fingerprint=""))
    assert target(PLAIN, known).token == "its-token"  # noqa: S105 - nobody's
    with pytest.raises(ConfigError, match="Pair with it anew"):
        target(TLS, known)


def test_another_device_of_a_known_name_may_be_chosen_by_its_id(known: KnownDevices) -> None:
    known.remember(KNOWN)
    assert target(TWIN, known, chosen=True).token == ""


def test_the_users_token_goes_to_who_is_known_or_pinned_only(known: KnownDevices) -> None:
    with pytest.raises(ConfigError, match="is not known here, so it gets to see none"):
        admitted(TLS, "mine", "", known, False)
    assert admitted(TLS, "mine", PIN, known, False) == Target(TLS.name, ID, TLS.url, "mine", PIN)
    assert admitted(PLAIN, "mine", "", known, False).token == ""
    with pytest.raises(ConfigError, match="has no certificate"):
        admitted(PLAIN, "mine", PIN, known, False)
    known.remember(KNOWN)
    assert admitted(TLS, "", "", known, False).token == "its-token"  # noqa: S105 - nobody's
    assert admitted(TLS, "mine", "", known, False).token == "mine"  # noqa: S105 - nobody's


async def test_one_that_is_known_is_taken_at_once_beside_its_twin(known: KnownDevices) -> None:
    known.remember(Known(ID, "kitchen-3f2a"))
    assert await among(Looking(TWIN, PLAIN), "Kitchen-3F2A", known, 60) == PLAIN


async def test_one_that_comes_later_is_waited_for(known: KnownDevices) -> None:
    known.remember(Known(ID, "kitchen-3f2a"))
    browser = Looking(TWIN)
    looking = asyncio.create_task(among(browser, "kitchen-3f2a", known, 60))
    while not browser.changed:
        await asyncio.sleep(0)
    browser.hear(PLAIN)
    assert await looking == PLAIN
    assert not browser.changed


async def test_twins_are_listed_and_chosen_by_id(known: KnownDevices) -> None:
    with pytest.raises(ConfigError, match=rf"2 devices have the name .* kitchen-3f2a@{ID}, kitchen-3f2a@{OTHER}"):
        await among(Looking(PLAIN, TWIN), "kitchen-3f2a", known, 0.01)
    assert await among(Looking(PLAIN, TWIN), f"kitchen-3f2a@{OTHER[:4]}", known, 0.01) == TWIN
    assert await among(Looking(PLAIN, TWIN), OTHER, known, 0.01) == TWIN
    assert labels([PLAIN, TWIN, replace(PLAIN, name="hall")])[2] == "hall"


async def test_who_is_refused_is_told(known: KnownDevices) -> None:
    known.remember(KNOWN)
    with pytest.raises(ConfigError, match="now has none") as raised:
        await among(Looking(PLAIN), "kitchen-3f2a", known, 0.01)
    assert raised.value.__cause__ is None, "it is not away"


async def test_who_is_not_there_is_away_and_the_others_are_listed(known: KnownDevices) -> None:
    with pytest.raises(ConfigError, match=r"no device hall is found in this network. There are kitchen-3f2a$") as raised:
        await among(Looking(PLAIN), "hall", known, 0.01)
    assert isinstance(raised.value.__cause__, TimeoutError)
    many = [replace(PLAIN, name=f"d{number:02}", id=f"{number:016x}") for number in range(40)]
    with pytest.raises(ConfigError, match=r"d00, d01, .* d11 and 28 more$"):
        await among(Looking(*many), "hall", known, 0.01)
    browser = Looking()
    browser.problem = "no network"
    with pytest.raises(ConfigError, match="hall cannot be found: no network"):
        await among(browser, "hall", known, 0.01)


async def test_the_address_that_answers_is_taken() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = replace(PLAIN, addresses=("127.0.0.2", "not an address", "127.0.0.1"), port=port)
        address, took_s = await reach(found)
        assert address == "127.0.0.1"
        assert took_s > 0
        assert found.at(address).addresses == ("127.0.0.1", "127.0.0.2", "not an address")
    assert await reach(replace(PLAIN, addresses=("127.0.0.2",), port=port)) == ("", 0.0)
