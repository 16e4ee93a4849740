"""What a browser makes of records that anybody may have sent, without a network."""

import ipaddress
import string

from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from edge_mcp.discovery.advert import SERVICE, Advert, advert_of
from edge_mcp.discovery.found import instance, ranked

ADVERT = Advert("3f2a" * 4, "0.1.0", ("2026-07-28", "2025-11-25"), ("ws", "http"), "/mcp", True, "0" * 32, "token", True, 8)


def test_what_is_encoded_is_read_again() -> None:
    encoded = {key.encode(): value.encode() for key, value in ADVERT.encoded().items()}
    assert advert_of(encoded) == ADVERT


@given(st.binary(max_size=600))
def test_any_text_is_an_advert_or_none(text: bytes) -> None:
    advert = advert_of(ServiceInfo(SERVICE, f"x.{SERVICE}", properties=text).properties)
    assert advert is None or len(advert.id) == 16


@given(st.dictionaries(st.sampled_from(list(ADVERT.encoded())).map(str.encode), st.none() | st.binary(max_size=255)))
def test_wrong_values_are_bounded(properties: dict[bytes, bytes | None]) -> None:
    advert = advert_of({b"id": b"3f2a" * 4, **properties})
    if advert is not None:
        assert advert.path.startswith("/")
        assert set(advert.path) <= set(string.ascii_letters + string.digits + "._~/-")
        assert 0 <= advert.load <= 3
        assert 0 <= advert.tools <= 10_000
        assert advert.auth in ("none", "token")


@given(st.text(max_size=80))
def test_a_name_is_one_that_can_be_shown_and_typed(name: str) -> None:
    shown = instance(f"{name}.{SERVICE}")
    assert shown in ("", name)
    assert shown.isprintable()
    assert len(shown.encode()) <= 63


@given(st.text(max_size=100))
def test_what_is_no_instance_has_no_name(full: str) -> None:
    assert not instance(full) or full.lower().endswith(SERVICE)


@given(
    st.binary(max_size=17) | st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.none() | st.integers(0)
)
def test_an_address_is_one_where_another_host_can_be(packed: bytes, scope: int | None) -> None:
    best = ranked(packed, scope)
    if best is not None:
        ip = ipaddress.ip_address(best[1])
        assert not (ip.is_loopback or ip.is_multicast or ip.is_unspecified)


def test_the_best_address_is_one_of_the_own_network() -> None:
    texts = ["169.254.1.1", "8.8.8.8", "2001:4860::1", "fd00::1", "192.168.1.2"]
    near = [ipaddress.ip_network(text) for text in ("169.254.0.0/16", "8.8.8.0/24", "2001:4860::/64")]
    order = sorted(filter(None, (ranked(ipaddress.ip_address(text).packed, None, near) for text in texts)))
    assert [text for _, text in order] == ["192.168.1.2", "fd00::1", "8.8.8.8", "2001:4860::1", "169.254.1.1"]
    # An advert leads nowhere beyond the networks that this machine is in.
    texts += ["169.254.169.254", "8.8.9.9", "2001:4860:0:1::1"]
    far = [text for text in texts if not ranked(ipaddress.ip_address(text).packed, None, near[1:2])]
    assert far == ["169.254.1.1", "2001:4860::1", "169.254.169.254", "8.8.9.9", "2001:4860:0:1::1"]
    assert ranked(ipaddress.ip_address("fe80::1").packed, None) is None
    assert ranked(ipaddress.ip_address("::ffff:127.0.0.1").packed, None) is None
    assert ranked(ipaddress.ip_address("fe80::1").packed, 1) == (4, "fe80::1%lo")
