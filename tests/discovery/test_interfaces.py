"""What the kernel says of interfaces, and which of them a device is advertised on."""

import asyncio
import ipaddress
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from edge_mcp.discovery.identity import device_id, instance_name
from edge_mcp.discovery.interfaces import Changes, Interface, attributes, interfaces, messages, networks, of_the_network
from tests.transports.networks import Host

UP = 0x1 | 0x2 | 0x40 | 0x1000


def made(index: int, name: str, kind: str = "", flags: int = UP, master: int = 0, mac: str = "02fc00000001") -> Interface:
    return Interface(index, name, flags, kind, mac, master, (f"10.0.{index}.1",))


def chosen(*some: Interface, named: tuple[str, ...] = ()) -> list[str]:
    return [one.name for one in of_the_network(some, named)]


def test_hardware_carries_the_network_and_not_what_programs_make() -> None:
    assert chosen(
        made(1, "lo", flags=UP | 0x8),
        made(2, "eth0"),
        made(3, "wlan0"),
        made(4, "wg0", "wireguard"),
        made(5, "tun0", "tun", UP | 0x10),
        made(6, "docker0", "bridge"),
        made(7, "veth12ab", "veth", master=6),
        made(8, "eth1", flags=UP & ~0x40),
        Interface(9, "eth2", UP),
    ) == ["eth0", "wlan0"]


def test_a_bridge_of_hardware_is_the_network_and_so_is_the_veth_of_a_container() -> None:
    assert chosen(made(2, "eth0", master=3), made(3, "br0", "bridge")) == ["br0"]
    assert chosen(made(2, "eth0", "veth")) == ["eth0"]


def test_what_the_owner_names_counts() -> None:
    assert chosen(made(2, "eth0"), made(6, "docker0", "bridge"), made(4, "wg0", "wireguard"), named=("wg0",)) == ["wg0"]


def test_this_machine_has_a_loopback_interface() -> None:
    loopback = next(one for one in interfaces() if one.name == socket.if_indextoname(1))
    assert "127.0.0.1" in loopback.addresses
    assert loopback.kind == ""


def test_this_machine_is_in_the_network_of_its_loopback() -> None:
    assert ipaddress.ip_network("127.0.0.0/8") in networks()


def test_changes_are_told_once_for_a_swarm() -> None:
    """On a host of the test's own."""
    script = """
import asyncio, subprocess
from edge_mcp.discovery.interfaces import Changes, interfaces
async def main():
    told = asyncio.Event()
    times = []
    changes = Changes(lambda: (times.append(1), told.set()), 0.3)
    for number in range(5):
        subprocess.run(["ip", "address", "add", f"10.9.{number}.1/24", "dev", "lo"], check=True)
    await asyncio.wait_for(told.wait(), 30)
    await asyncio.sleep(0.5)
    changes.close()
    print(len(times), sum(one.startswith("10.9.") for one in interfaces()[0].addresses))
asyncio.run(main())
"""
    host = Host((), ("--map-root-user", "--net"))
    try:
        process = host.start(sys.executable, "-c", script, stdout=subprocess.PIPE)
        assert process.communicate(timeout=60)[0].split() == ["1", "5"]
    finally:
        host.close()


async def test_nothing_is_told_after_the_end() -> None:
    changes = Changes(lambda: pytest.fail("told"), 0)
    changes.close()
    await asyncio.sleep(0)


@given(some.binary(max_size=200))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    for _, body in messages(data):
        attributes(body)


def test_the_id_is_that_of_the_hardware(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    one, other = [made(1, "lo", mac="000000000000"), made(2, "eth0")], [made(2, "eth0", mac="02fc00000002")]
    here = device_id(one, tmp_path)
    assert len(here) == 16 and set(here) <= set("0123456789abcdef")
    assert device_id(one, tmp_path) == here  # after a restart
    assert device_id([*one, made(9, "usb0", mac="02fc00000009")], tmp_path) == here  # what is plugged in does not matter
    assert device_id(other, tmp_path) != here  # a copied card
    serial = tmp_path / "proc/device-tree/serial-number"
    serial.parent.mkdir(parents=True)
    serial.write_bytes(b"10000000deadbeef\0")
    board = device_id(one, tmp_path)
    assert device_id(other, tmp_path) == board != here  # the board has a number of its own
    serial.write_bytes(b"0000000000000000\0")
    assert device_id(one, tmp_path) == here  # which is none


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("kitchen", "kitchen-3f2a"),
        ("kitchen.example", "kitchen-example-3f2a"),
        ("", "edge-mcp-3f2a"),
        ("küche\n", "küche-3f2a"),
        ("ü" * 60, "ü" * 26 + "-3f2a"),
    ],
)
def test_an_instance_has_a_name_that_fits(name: str, called: str) -> None:
    assert instance_name(name, "3f2a0123456789ab") == called
    assert len(called.encode()) <= 58
