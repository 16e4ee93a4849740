"""What is taken for near, by routing tables and header fields."""

from pathlib import Path

import pytest
from multidict import CIMultiDict

from edge_mcp.transports.distance import is_far, on_link

# A Pi at home: the link 192.168.1.0/24, a router, a network behind another router, and a tunnel with a narrower one of its own.
IPV4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
wlan0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0
wlan0\t0000000A\t0201A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
wg0\t0000080A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
IPV6 = """\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 1 0 1 wlan0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 1 0 3 wlan0
fd000000000000000000000000000002 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 1 0 200001 lo
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text(IPV4)
    (tmp_path / "net/ipv6_route").write_text(IPV6)
    return tmp_path


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("192.168.1.77", True),
        ("192.168.2.77", False),
        ("10.1.2.3", False),
        ("10.8.0.5", True),
        ("8.8.8.8", False),
        ("::ffff:192.168.1.77", True),
        ("::ffff:8.8.8.8", False),
        ("169.254.3.4", True),
        ("fe80::1%wlan0", True),
        ("fd00::2", True),
        ("fd00::5:6", True),
        ("2001:db8::1", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_a_neighbour_is_near(proc: Path, address: str, near: bool) -> None:
    assert on_link(address, proc) is near
    assert is_far(CIMultiDict(), address, proc) is not near


@pytest.mark.parametrize("field", ["X-Forwarded-For", "forwarded", "via", "X-Real-IP", "CF-Connecting-IP"])
def test_whoever_comes_through_a_proxy_is_far(proc: Path, field: str) -> None:
    assert is_far(CIMultiDict({field: "203.0.113.9"}), "127.0.0.1", proc)


@pytest.mark.parametrize("text", ["", "nonsense\nmore nonsense\n", "x\n" * 100_000, "\xff\n"])
def test_without_a_readable_table_only_what_needs_none_is_near(tmp_path: Path, text: str) -> None:
    assert not on_link("192.168.1.77", tmp_path)
    (tmp_path / "net").mkdir()
    for name in ("route", "ipv6_route"):
        (tmp_path / "net" / name).write_text(text)
    assert not on_link("192.168.1.77", tmp_path)
    assert not on_link("fd00::2", tmp_path)
    assert on_link("127.0.0.1", tmp_path)


def test_a_default_route_without_a_router_leads_far_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text("header\nwg0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n")
    assert not on_link("8.8.8.8", tmp_path)


def test_this_machines_own_table_can_be_read() -> None:
    assert on_link("127.0.0.1")
    assert not on_link("203.0.113.1")
