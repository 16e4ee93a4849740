"""Semantic versions, by the specification's own examples."""

from itertools import pairwise

import pytest

from edge_mcp.repository.semver import is_version, precedence

RISING = [
    "0.0.0",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.9.0",
    "1.10.0",
    "1.11.0",
    "2.0.0",
    "2.1.0",
    "2.1.1",
]


def test_the_specifications_order() -> None:
    assert all(precedence(one) < precedence(other) for one, other in pairwise(RISING))


def test_build_metadata_does_not_count() -> None:
    assert precedence("1.0.0-beta+exp.sha.5114f85") == precedence("1.0.0-beta")
    assert precedence("1.0.0+20130313144700") == precedence("1.0.0+21AF26D3---117B344092BD")


@pytest.mark.parametrize(
    "text",
    [
        "0.0.4",
        "1.1.2-prerelease+meta",
        "1.0.0-alpha0.valid",
        "1.0.0-0A.is.legal",
        "1.2.3----RC-SNAPSHOT.12.9.1--.12+788",
        "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
        "99999999999999999999999.999999999999999999.99999999",
    ],
)
def test_what_is_a_version(text: str) -> None:
    assert is_version(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3-0123",
        "1.2.3.DEV",
        "1.1.2+.123",
        "01.1.1",
        "1.2-SNAPSHOT",
        "-1.0.3",
        "1.0.0-",
        "1.0.0\n",
        "v1.0.0",
        "1.0.0/..",
        "1.0.0-" + "a" * 64,
        "\N{ARABIC-INDIC DIGIT THREE}.0.0",
        "1.0.0 ",
    ],
)
def test_what_is_none(text: str) -> None:
    assert not is_version(text)
    assert precedence(text) < precedence("0.0.0-0")
