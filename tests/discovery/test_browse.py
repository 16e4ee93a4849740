"""What is found in a real network segment, whoever says what there."""

import json
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.client.known import Known, KnownDevices
from edge_mcp.discovery.browse import MAX_FOUND
from edge_mcp.transports import tls
from tests.discovery.segment import PATIENCE_S, Segment, Speaker, address, discovered, edge_mcp_in, ran, segment
from tests.transports.networks import Host

KITCHEN, OTHER = "3f2a" * 4, "77aa" * 4
TOKEN = "token-of-the-kitchen-0123456789"  # noqa: S105 - nobody's


def txt(id_: str = KITCHEN, **more: str) -> dict[str, str]:
    told = {"txtvers": "1", "id": id_, "v": "0.1.0", "tr": "ws,http", "path": "/mcp", "sec": "none", "auth": "none"}
    return {**told, "n": "8", "cat": "00aa11bb", "load": "1", **more}


def service(number: int, name: str = "kitchen-3f2a", port: int = 8765, **more: str) -> dict[str, Any]:
    """On the host with this number."""
    told = {"name": name, "port": port, "addresses": [address(number)], "server": f"host{number}", "txt": txt(**more)}
    return told


@pytest.fixture(scope="module")
def lan() -> Iterator[Segment]:
    with segment(3) as made:
        yield made


@contextmanager
def serving_on(host: Host, home: Path, *words: str) -> Iterator[None]:
    """A real server on a host."""
    process = edge_mcp_in(host, "serve", "--no-mdns", "--listen", "*:8765", *words, home=home)
    assert process.stderr is not None
    try:
        while "listening on" not in (line := process.stderr.readline()):
            assert line, "the server did not start"
        yield
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@contextmanager
def listening(host: Host, port: int = 8765) -> Iterator["subprocess.Popen[str]"]:
    """A port that takes connections and prints what it hears: nothing may be heard there."""
    code = (
        "import socket,sys\n"
        f"s=socket.create_server(('0.0.0.0',{port})); print('ready',flush=True)\n"
        "while True:\n c,_=s.accept(); c.settimeout(5)\n"
        " try: heard=c.recv(4096)\n except OSError: heard=b''\n"
        " print(heard,flush=True)\n c.close()\n"
    )
    process = host.start(sys.executable, "-c", code, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def watching(host: Host, home: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    process = edge_mcp_in(host, "discover", "--watch", *words, home=home)
    end = threading.Timer(2 * PATIENCE_S, process.kill)  # who reads its output does not wait for ever
    end.start()
    try:
        yield process
    finally:
        end.cancel()
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def event(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "nothing is told any more"
    told: dict[str, Any] = json.loads(line)
    return told


def test_a_device_is_found_with_all_that_it_says(lan: Segment) -> None:
    with listening(lan.hosts[1]), Speaker(lan.hosts[1], service(2)):
        found = discovered(lan.hosts[0])["kitchen-3f2a"]
        status, out, _ = ran(lan.hosts[0], "discover", "--wait", "1")
    assert (found["id"], found["url"], found["tools"], found["load"]) == (KITCHEN, "ws://10.78.0.2:8765/mcp", 8, "WARM")
    assert found["rtt_ms"] > 0
    assert (found["away"], found["known"], found["refused"]) == (False, False, "")
    head, row = out.splitlines()
    assert status == 0
    assert head.split() == ["name", "address", "tools", "load", "security", "ms"]
    assert row.split()[:5] == ["kitchen-3f2a", "10.78.0.2:8765", "8", "WARM", "none"]


def test_what_comes_changes_and_goes_is_told_while_it_is_watched(lan: Segment, tmp_path: Path) -> None:
    with watching(lan.hosts[0], tmp_path, "--json") as watch, listening(lan.hosts[1]):
        with Speaker(lan.hosts[1], service(2)) as speaker:
            assert (found := event(watch))["event"] == "found"
            assert found["name"] == "kitchen-3f2a"
            speaker.goodbye()
        assert event(watch)["event"] == "gone"
        with Speaker(lan.hosts[1], service(2, name="hall-77aa", id_=OTHER)):
            assert (event(watch)["name"]) == "hall-77aa"


def test_a_line_for_each_change_where_there_is_no_terminal(lan: Segment, tmp_path: Path) -> None:
    with watching(lan.hosts[0], tmp_path) as watch, listening(lan.hosts[1]), Speaker(lan.hosts[1], service(2)):
        assert watch.stdout is not None
        assert watch.stdout.readline().split()[:4] == ["found", "kitchen-3f2a", "10.78.0.2:8765", "8"]


def test_nothing_found_and_no_network_are_no_crash(lan: Segment) -> None:
    assert ran(lan.hosts[0], "discover", "--wait", "0.3")[:2] == (0, "no devices found\n")
    begun = time.monotonic()
    status, _, err = ran(lan.hosts[0], "call", "device_status", "--on", "nobody-0000")
    assert status == 1
    assert err.startswith("edge-mcp: no device nobody-0000 is found in this network. Nor any other device: name its address")
    assert time.monotonic() - begun < PATIENCE_S / 2


_SHUT_OUT = """
import asyncio, socket
from edge_mcp.discovery.browse import Browser

async def main():
    taken = socket.socket(type=socket.SOCK_DGRAM)
    taken.bind(("", 5353))
    async with Browser() as browser:
        print(browser.problem)
        taken.close()
        while not browser.found:
            await asyncio.sleep(0.05)
        print(browser.problem, *(name for name, _ in browser.found))

asyncio.run(main())
"""


def test_a_port_that_another_program_does_not_share_is_named_and_waited_for(lan: Segment) -> None:
    with Speaker(lan.hosts[1], service(2)):
        process = lan.hosts[0].start(sys.executable, "-c", _SHUT_OUT, stdout=subprocess.PIPE)
        try:
            said, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    problem, found = said.splitlines()
    assert problem.startswith("another program has mDNS' port 5353 and does not share it")
    assert found.strip() == "kitchen-3f2a"


def test_a_tool_is_called_by_the_name_of_its_device_over_ipv4_and_ipv6(lan: Segment, tmp_path: Path) -> None:
    host = lan.hosts[1]
    links = json.loads(
        subprocess.run([*host.enter, "ip", "-j", "-6", "addr", "show", "dev", "eth"], capture_output=True, check=True).stdout
    )
    link_local = next(one["local"] for one in links[0]["addr_info"] if one["scope"] == "link")
    with serving_on(host, tmp_path, "--insecure"):
        with Speaker(host, service(2)):
            status, out, err = ran(lan.hosts[0], "call", "device_status", "--json", "--on", "kitchen-3f2a")
            assert (status, out[:1]) == (0, "{"), err
        with Speaker(host, {**service(2), "addresses": [link_local]}):
            assert discovered(lan.hosts[0])["kitchen-3f2a"]["addresses"] == [f"{link_local}%eth"]
            status, out, err = ran(lan.hosts[0], "call", "device_status", "--json", "--on", "kitchen-3f2a")
            assert (status, out[:1]) == (0, "{"), err


def test_an_address_that_does_not_answer_is_passed_over(lan: Segment, tmp_path: Path) -> None:
    several = {**service(2), "addresses": ["10.78.0.77", "127.0.0.1", "224.0.0.1", "255.255.255.255", address(2)]}
    with serving_on(lan.hosts[1], tmp_path, "--insecure"), Speaker(lan.hosts[1], several):
        found = discovered(lan.hosts[0])["kitchen-3f2a"]
        assert set(found["addresses"]) == {"10.78.0.77", address(2)}
        assert not found["away"]
        status, _, err = ran(lan.hosts[0], "call", "device_status", "--on", "kitchen-3f2a")
        assert status == 0, err


def test_two_devices_with_one_name_are_told_apart_by_id(lan: Segment, tmp_path: Path) -> None:
    one, two = service(2), service(3, id_=OTHER)
    with serving_on(lan.hosts[2], tmp_path, "--insecure"), Speaker(lan.hosts[1], one), Speaker(lan.hosts[2], two):
        status, out, err = ran(lan.hosts[0], "discover")
        assert status == 0, err
        assert f"kitchen-3f2a@{KITCHEN}" in out
        assert f"kitchen-3f2a@{OTHER}" in out
        status, _, err = ran(lan.hosts[0], "call", "device_status", "--on", "kitchen-3f2a")
        assert status == 1
        assert "edge-mcp: 2 devices have the name kitchen-3f2a. Write one of: kitchen-3f2a@" in err
        status, _, err = ran(lan.hosts[0], "call", "device_status", "--on", f"kitchen-3f2a@{OTHER}")
        assert status == 0, err


def test_a_token_goes_to_the_device_that_is_known_and_to_no_other(lan: Segment, tmp_path: Path) -> None:
    """The same name and id, at another address and with another key: refused, and not a byte of the token is sent."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    shown = tls.of("", "", tmp_path / "device/edge-mcp/tls").fingerprint.removeprefix("sha256:")
    secure = service(2, sec="tls", auth="token", fp=shown[:32])
    home = tmp_path / "user"
    call = ("call", "device_status", "--on", "kitchen-3f2a")
    with serving_on(lan.hosts[1], tmp_path / "device", "--tls", "--token-file", str(token)):
        with Speaker(lan.hosts[1], secure):
            status, _, err = ran(lan.hosts[0], *call, "--token-file", str(token), home=home)
            assert status == 1
            assert "edge-mcp: kitchen-3f2a asks for a token and is not known here, so it gets to see none. Pair with it" in err
            KnownDevices(home / "edge-mcp/devices.json").remember(Known(KITCHEN, "kitchen-3f2a", shown, TOKEN))
            assert ran(lan.hosts[0], *call, home=home)[0] == 0
            assert discovered(lan.hosts[0], home=home)["kitchen-3f2a"]["proved"]
        spoofed = Speaker(lan.hosts[2], {**secure, "addresses": [address(3)], "server": "host3"})
        with serving_on(lan.hosts[2], tmp_path / "spoofer", "--tls", "--token-file", str(token)), spoofed:
            status, _, err = ran(lan.hosts[0], *call, home=home)
            assert status == 1
            assert "the certificate of kitchen-3f2a is sha256:" in err
            status, out, _ = ran(lan.hosts[0], "discover", home=home)
            assert "REFUSED" in out
            assert "kitchen-3f2a is refused: kitchen-3f2a shows another certificate than the one it is known by" in out
    for lie in ({"fp": "0" * 32}, {"id_": OTHER}, {"sec": "none", "fp": ""}):
        claim = service(3)
        claim["txt"] = txt(**{"sec": "tls", "auth": "token", "fp": shown[:32], **lie})
        with listening(lan.hosts[2]) as spoofer, Speaker(lan.hosts[2], claim):
            status, _, err = ran(lan.hosts[0], *call, home=home)
            assert status == 1
            assert "Another device may pose as it" in err or "the device that is known by this name has" in err
            spoofer.kill()
            assert spoofer.stdout is not None
            assert spoofer.stdout.read() == "", "it heard something"


def test_python_connects_by_name_and_a_pin_makes_a_device_known(lan: Segment, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    shown = tls.of("", "", tmp_path / "device/edge-mcp/tls").fingerprint
    code = (
        "import asyncio, sys\n"
        "from edge_mcp.client import connect\n"
        "async def main():\n"
        "    async with connect('kitchen-3f2a', token=sys.argv[1], fingerprint=sys.argv[2]) as device:\n"
        "        print((await device.call('device_status')).text)\n"
        "asyncio.run(main())\n"
    )
    secure = service(2)
    secure["txt"] = txt(sec="tls", auth="token", fp=shown.removeprefix("sha256:")[:32])
    with (
        serving_on(lan.hosts[1], tmp_path / "device", "--tls", "--token-file", str(token)),
        Speaker(lan.hosts[1], secure),
    ):
        home = f"XDG_DATA_HOME={tmp_path / 'user'}"
        for pin, status in ((shown, 0), ("0" * 64, 1), ("", 1)):
            words = ("env", home, sys.executable, "-c", code, TOKEN, pin)
            process = lan.hosts[0].start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            out, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == status, err
            assert out.startswith("The device is ") == (status == 0)


def test_a_device_without_a_token_is_remembered_by_its_id(lan: Segment, tmp_path: Path) -> None:
    shown = tls.of("", "", tmp_path / "device/edge-mcp/tls").fingerprint.removeprefix("sha256:")
    secure = service(2)
    secure["txt"] = txt(sec="tls", fp=shown[:32])
    with serving_on(lan.hosts[1], tmp_path / "device", "--tls", "--insecure"), Speaker(lan.hosts[1], secure):
        home = tmp_path / "user"
        status, _, err = ran(lan.hosts[0], "call", "device_status", "--on", "kitchen-3f2a", home=home)
        assert status == 0
        assert "kitchen-3f2a is new here: compare what the device shows" in err
        assert KnownDevices(home / "edge-mcp/devices.json").all() == [Known(KITCHEN, "kitchen-3f2a", shown)]
        status, out, err = ran(lan.hosts[0], "discover", "--forget", "kitchen-3f2a", home=home)
        assert (status, out) == (0, f"kitchen-3f2a ({KITCHEN}) is forgotten: it is new again\n")


def test_the_table_is_drawn_anew_in_a_terminal_without_what_a_name_would_command(lan: Segment, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (20, 70))
    words = ("env", f"XDG_DATA_HOME={tmp_path}", sys.executable, "-m", "edge_mcp", "discover", "--watch")
    with Speaker(lan.hosts[1], service(2)), Speaker(lan.hosts[2], {"flood": 30}):
        process = lan.hosts[0].start(*words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
        os.close(theirs)
        seen = b""
        while b"away" not in seen:
            seen += os.read(ours, 4096)
        process.terminate()
        with suppress(OSError):  # so a terminal ends whose program is gone
            while data := os.read(ours, 4096):
                seen += data
    os.close(ours)
    assert process.wait(PATIENCE_S) == 143
    assert seen.startswith(b"\x1b[?1049h")
    assert seen.endswith(b"\x1b[?1049l")
    assert b"kitchen-3f2a" in seen
    assert b"\x1b[2J" not in seen


def test_an_address_that_changes_is_followed(lan: Segment, tmp_path: Path) -> None:
    """A host keeps `connect` running while its device moves to another address."""
    host, ping = lan.hosts[1], '{"jsonrpc":"2.0","id":%d,"method":"ping","params":{"_meta":%s}}\n'
    meta = json.dumps(
        {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    )
    bridge = lan.hosts[0].start(
        "env", f"XDG_DATA_HOME={tmp_path}", sys.executable, "-m", "edge_mcp", "connect", "kitchen-3f2a",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert bridge.stdin is not None
    assert bridge.stdout is not None
    try:
        for number, at in ((1, address(2)), (2, "10.78.0.99")):
            host.run("ip", "address", "flush", "dev", "eth", "scope", "global")
            host.run("ip", "address", "add", f"{at}/24", "dev", "eth")
            host.run("ip", "route", "replace", "default", "dev", "eth")
            with serving_on(host, tmp_path / "device", "--insecure"), Speaker(host, {**service(2), "addresses": [at]}):
                bridge.stdin.write(ping % (number, meta))
                bridge.stdin.flush()
                assert json.loads(bridge.stdout.readline())["id"] == number
    finally:
        bridge.kill()
        bridge.communicate()
        host.run("ip", "address", "flush", "dev", "eth", "scope", "global")
        host.run("ip", "address", "add", f"{address(2)}/24", "dev", "eth")
        host.run("ip", "route", "replace", "default", "dev", "eth")


def test_a_flood_of_adverts_hides_nobody_who_is_known_and_takes_little_memory(lan: Segment, tmp_path: Path) -> None:
    home = tmp_path / "user"
    KnownDevices(home / "edge-mcp/devices.json").remember(Known(KITCHEN, "kitchen-3f2a"))
    with (
        watching(lan.hosts[0], home, "--json") as watch,
        listening(lan.hosts[1]),
        Speaker(lan.hosts[2], {"flood": 10_000}),
        Speaker(lan.hosts[1], service(2)),
    ):
        names: list[str] = []
        while "kitchen-3f2a" not in names:
            names.append(event(watch)["name"])
        assert all(name.isprintable() for name in names)
        assert len(set(names)) <= MAX_FOUND + 1
        assert "edge_mcp" in Path(f"/proc/{watch.pid}/cmdline").read_text(), "nsenter and env have become the command"
        status = Path(f"/proc/{watch.pid}/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 100 * 1024
        assert ran(lan.hosts[0], "discover", "--wait", "0.5", home=home)[0] == 0


def test_a_flood_from_one_address_leaves_room_for_devices_that_nobody_knows(lan: Segment, tmp_path: Path) -> None:
    flood = {"flood": 3_000, "addresses": [address(3)]}
    with (
        watching(lan.hosts[0], tmp_path, "--json") as watch,
        listening(lan.hosts[1]),
        Speaker(lan.hosts[2], flood),
        Speaker(lan.hosts[1], service(2)),
    ):
        while event(watch)["name"] != "kitchen-3f2a":
            pass
