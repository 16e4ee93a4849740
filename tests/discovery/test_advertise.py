"""Real servers on hosts of a bridge, found by a real browser on another one."""

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.advertising import Advertising, Offer
from edge_mcp.changes import Changes
from edge_mcp.config import Config
from edge_mcp.listeners import Opened
from tests.discovery.segment import PATIENCE_S, Segment, address, discovered, edge_mcp_in, ran, segment
from tests.transports.networks import ROOT, Host

PORT = 8765


@pytest.fixture
def lan() -> Iterator[Segment]:
    with segment(3) as made:
        yield made


@contextmanager
def served(host: Host, *words: str, home: Path, listen: str = f"*:{PORT}") -> Iterator["subprocess.Popen[str]"]:
    """A server without models on a host, once it listens."""
    (home / "none").mkdir(parents=True, exist_ok=True)
    process = edge_mcp_in(host, "serve", "--listen", listen, "--insecure", "--models", str(home / "none"), *words, home=home)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def until(
    host: Host, wanted: Callable[[dict[str, dict[str, Any]]], bool], within_s: float = PATIENCE_S
) -> dict[str, dict[str, Any]]:
    """What is found on a host, once it is as `wanted`."""
    deadline = time.monotonic() + within_s
    while not wanted(found := discovered(host)):
        assert time.monotonic() < deadline, found
    return found


def answers(host: Host, where: str) -> bool:
    """Whether the server there answers who asks it from a host."""
    script = f"import urllib.request; print(urllib.request.urlopen('http://{where}:{PORT}/health', timeout=30).status)"
    process = host.start("python3", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return process.communicate(timeout=PATIENCE_S)[0].strip() == "200"


def test_a_server_is_found_and_is_gone_after_its_goodbye(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    with served(device, "--name", "kitchen", home=tmp_path) as process:
        found = until(host, lambda found: bool(found))
        (name,) = found
        assert name.startswith("kitchen-") and len(name) == len("kitchen-3f2a")
        shown = found[name]
        assert shown["id"].startswith(name.removeprefix("kitchen-"))
        assert address(1) in json.dumps(shown)
        shutil.copytree(ROOT / "models/face-detector", tmp_path / "none/face-detector")
        until(host, lambda found: any(device["tools"] == shown["tools"] + 1 for device in found.values()))
        process.terminate()
        process.wait(PATIENCE_S)
        until(host, lambda found: not found, 20)


def test_a_network_without_ipv4_does(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    for one in (device, host):
        one.run("ip", "-4", "address", "flush", "dev", "eth")
    with served(device, home=tmp_path):
        ((name, shown),) = until(host, lambda found: bool(found)).items()
        assert [place.partition("::")[0] for place in shown["addresses"]] == ["fe80"]
        status, out, err = ran(host, "call", "device_status", "--json", "--on", name)
        assert (status, out[:1]) == (0, "{"), err


def test_devices_whose_cards_are_copies_are_two(lan: Segment, tmp_path: Path) -> None:
    """The same host name, machine-id and data: only the hardware is another one."""
    one, two, host = lan.hosts
    with served(one, home=tmp_path), served(two, home=tmp_path):
        found = until(host, lambda found: len(found) == 2)
        first, second = found.values()
        assert first["id"] != second["id"]
        assert {name[:-5] for name in found} == {next(iter(found))[:-5]}


def test_a_device_whose_address_changes_is_followed(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    with served(device, home=tmp_path):
        until(host, lambda found: bool(found))
        device.run("ip", "address", "del", f"{address(1)}/24", "dev", "eth")
        device.run("ip", "address", "add", "10.78.0.77/24", "dev", "eth")
        device.run("ip", "route", "replace", "default", "dev", "eth")
        until(host, lambda found: "10.78.0.77" in json.dumps(found) and address(1) not in json.dumps(found))


def test_a_network_that_comes_late_and_goes_again_stops_nothing(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    device.run("ip", "link", "set", "eth", "down")
    with served(device, home=tmp_path):
        assert answers(device, "127.0.0.1")
        device.run("ip", "link", "set", "eth", "up")
        device.run("ip", "route", "add", "default", "dev", "eth")
        until(host, lambda found: bool(found))
        assert answers(host, address(1))
        device.run("ip", "link", "set", "eth", "down")
        assert answers(device, "127.0.0.1")
        device.run("ip", "link", "set", "eth", "up")
        device.run("ip", "route", "add", "default", "dev", "eth")
        until(host, lambda found: bool(found))
        assert answers(host, address(1))


def test_what_only_this_machine_reaches_is_not_advertised_nor_what_should_not_be(lan: Segment, tmp_path: Path) -> None:
    one, two, host = lan.hosts
    with (
        served(one, home=tmp_path / "a", listen=f"127.0.0.1:{PORT}"),
        served(two, "--no-mdns", home=tmp_path / "b"),
    ):
        assert answers(host, address(2))
        assert discovered(host) == {}


def test_two_servers_on_one_device_have_two_names(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    with served(device, home=tmp_path):
        (name,) = until(host, lambda found: len(found) == 1)
        with served(device, home=tmp_path, listen=f"*:{PORT + 1}"):
            found = until(host, lambda found: len(found) == 2)
            assert set(found) == {name, f"{name} (2)"}
            assert str(PORT + 1) in json.dumps(found[f"{name} (2)"])


def test_a_network_that_passes_no_multicast_on_stops_nothing(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    flood = ("bridge", "link", "set", "dev", "p1", "mcast_flood")
    lan.bridge.run(*flood, "off")
    lan.bridge.run("bridge", "link", "set", "dev", "p2", "mcast_flood", "off")
    with served(device, home=tmp_path):
        assert answers(host, address(1))
        assert discovered(host) == {}
        assert answers(host, address(1))
        lan.bridge.run(*flood, "on")
        lan.bridge.run("bridge", "link", "set", "dev", "p2", "mcast_flood", "on")
        until(host, lambda found: bool(found))


def test_a_port_that_another_program_has_is_waited_for(lan: Segment, tmp_path: Path) -> None:
    device, host, _ = lan.hosts
    script = (
        "import socket, sys; one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); one.bind(('::', 5353)); "
        "print(flush=True); sys.stdin.read()"
    )
    taken = device.start(sys.executable, "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert taken.stdout is not None
        taken.stdout.readline()
        with served(device, home=tmp_path) as process:
            assert process.stderr is not None
            assert "this device is not advertised in the network" in process.stderr.readline()
            assert answers(host, address(1))
            taken.communicate(timeout=PATIENCE_S)
            until(host, lambda found: bool(found))
            process.terminate()
            assert "is not advertised" not in process.stderr.read()
    finally:
        taken.kill()
        taken.communicate()


async def test_without_the_library_nothing_is_advertised_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def offer() -> Offer:
        return Offer(())

    monkeypatch.setitem(sys.modules, "edge_mcp.discovery.advertise", None)
    advertising = Advertising(Config(listen="*:0"), offer)
    with caplog.at_level(logging.INFO):
        advertising.start(Opened("*", 1, "", False), Changes())
    await advertising.close()
    assert len(caplog.messages) == 1
    assert "is not advertised" in caplog.text
