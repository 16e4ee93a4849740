"""What a browser makes of records that anybody may have sent, without a network."""

import string

from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from edge_mcp.discovery.advert import SERVICE, Advert, advert_of
from edge_mcp.discovery.browse import _instance

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
    shown = _instance(f"{name}.{SERVICE}")
    assert shown in ("", name)
    assert shown.isprintable()
    assert len(shown.encode()) <= 63


@given(st.text(max_size=100))
def test_what_is_no_instance_has_no_name(full: str) -> None:
    assert not _instance(full) or full.lower().endswith(SERVICE)
