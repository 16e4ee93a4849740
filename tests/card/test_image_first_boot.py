"""What the image does at its first boot, on a Debian that has booted."""

import codecs
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.device.machine import Machine, booted
from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card import image
from card.settings import Wishes

SCRIPT = "/usr/local/lib/edge-mcp/first-boot"
WISHES = "/boot/firmware/edge-mcp-card.toml"
ERROR = "/boot/firmware/edge-mcp-error.txt"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBtixYkNXmima08a0eACUQlWQW5D6LJP3hV7IEVmNr50 me@home"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "wpa").write_text(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    )
    files = {SCRIPT: image.OVERLAY / SCRIPT[1:], "/etc/systemd/system/wpa_supplicant@.service": folder / "wpa"}
    with booted(folder, files) as machine:
        machine.run("mkdir", "-p", "/boot/firmware", "/etc/sudoers.d")
        yield machine


def seen(machine: Machine, *files: str) -> list[tuple[str, str]]:
    """Mode and owner of files."""
    said = machine.run("stat", "--format=%a %U", *files).stdout.splitlines()
    return [(line.split()[0], line.split()[1]) for line in said]


def test_without_its_first_partition_nothing_is_decided(machine: Machine) -> None:
    ended = machine.run("python3", SCRIPT, check=False)
    assert (ended.returncode, ended.stderr) == (1, "/boot/firmware is not mounted: what the owner wished is not known\n")
    assert not machine.path("/etc/edge-mcp/token").exists()


def test_what_the_owner_wished_is_done_and_forgotten(machine: Machine) -> None:
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/boot/firmware")
    wishes = Wishes("kitchen", "anna", KEY, 'Our "net"', "ab" * 32, "DE", "Europe/Berlin", "0123456789abcdef")
    assert tomllib.loads(wishes.toml())["wifi"] == 'Our "net"'
    machine.path(WISHES).write_text(wishes.toml())
    assert machine.run("python3", SCRIPT).stdout == "this device is kitchen\n"
    assert machine.run("hostname").stdout == "kitchen\n"
    assert machine.path("/etc/hostname").read_text() == "kitchen\n"
    assert "127.0.1.1 kitchen\n" in machine.path("/etc/hosts").read_text()
    assert machine.run("readlink", "/etc/localtime").stdout == "/usr/share/zoneinfo/Europe/Berlin\n"
    assert machine.path("/home/anna/.ssh/authorized_keys").read_text() == f"{KEY}\n"
    assert machine.path("/etc/sudoers.d/anna").read_text() == "anna ALL=(ALL) NOPASSWD: ALL\n"
    assert "sudo" in machine.run("id", "--name", "--groups", "anna").stdout
    assert machine.run("getent", "shadow", "anna").stdout.split(":")[1] == "!"
    network = machine.path("/etc/wpa_supplicant/wpa_supplicant-wlan0.conf").read_text()
    assert f"ssid={wishes.wifi.encode().hex()}\n" in network
    assert f"psk={wishes.wifi_key}\n" in network
    assert "country=DE\n" in network
    machine.until("wpa_supplicant@wlan0.service", ActiveState="active")
    assert machine.path("/etc/edge-mcp/token").read_text() == "0123456789abcdef\n"
    assert seen(
        machine,
        *("/home/anna/.ssh", "/home/anna/.ssh/authorized_keys", "/etc/sudoers.d/anna"),
        *("/etc/wpa_supplicant/wpa_supplicant-wlan0.conf", "/etc/edge-mcp/token"),
    ) == [("700", "anna"), ("600", "anna"), ("440", "root"), ("600", "root"), ("600", "root")]
    assert list(machine.path("/boot/firmware").iterdir()) == []


def test_without_wishes_it_is_a_device_of_its_own(machine: Machine) -> None:
    machine.path("/etc/edge-mcp/token").unlink()
    digits = machine.path("/etc/machine-id").read_text()[:4]
    assert machine.run("python3", SCRIPT).stdout == f"this device is edge-{digits}\n"
    assert len(machine.path("/etc/edge-mcp/token").read_text()) == 44  # 32 bytes of chance, and the end of the line


def test_who_has_the_card_may_wish_something_later(machine: Machine) -> None:
    """Which is also what happens after the power went before the wishes were taken away."""
    before = machine.path("/etc/edge-mcp/token").read_text(), machine.path("/etc/hostname").read_text()
    other = KEY.replace("me@home", "me@work")
    machine.path(WISHES).write_text(Wishes(user="anna", ssh_key=other).toml())
    machine.run("python3", SCRIPT)
    assert machine.path("/home/anna/.ssh/authorized_keys").read_text() == f"{other}\n"
    assert (machine.path("/etc/edge-mcp/token").read_text(), machine.path("/etc/hostname").read_text()) == before
    assert not machine.path(WISHES).exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'user = "anna\nssh_key = ""', "cannot be read"),
        (b'user = "video"\nssh_key = "ssh-ed25519 AAAA"\n', "useradd failed"),
        (b"name = 5\n", "cannot be read: write name in quotes"),
        (b'name = "my kitchen"\n', "name: hostname failed"),
        (b'timezone = "Europe/Berlim"\n', "there is no Europe/Berlim"),
    ],
)
def test_a_wish_that_cannot_be_is_told_and_keeps_nothing_back(content: bytes, words: str, machine: Machine) -> None:
    machine.path("/etc/edge-mcp/token").unlink()
    machine.path(WISHES).write_bytes(content + b'token = "0123456789abcdef"\n')
    machine.run("python3", SCRIPT)
    assert words in machine.path(ERROR).read_text()
    assert (len(machine.path("/etc/edge-mcp/token").read_text()) == 17) == ("cannot be read" not in words)
    as_editors_write = b'timezone = "Europe/London"\r\ntoken = "fedcba9876543210"\r\n'
    machine.path(WISHES).write_bytes(codecs.BOM_UTF8 + as_editors_write)
    machine.run("python3", SCRIPT)
    assert machine.path("/etc/edge-mcp/token").read_text() == "fedcba9876543210\n"
    assert list(machine.path("/boot/firmware").iterdir()) == []


def test_the_power_may_go_while_the_wishes_are_taken_away(machine: Machine) -> None:
    before = machine.path("/etc/edge-mcp/token").read_text(), machine.path("/etc/hostname").read_text()
    machine.path(WISHES).write_bytes(bytes(300))
    machine.run("python3", SCRIPT)
    assert (machine.path("/etc/edge-mcp/token").read_text(), machine.path("/etc/hostname").read_text()) == before
    assert list(machine.path("/boot/firmware").iterdir()) == []


def test_a_network_is_joined_also_without_a_country(machine: Machine) -> None:
    machine.path(WISHES).write_text('wifi = "hidden"\n')
    machine.run("python3", SCRIPT)
    network = machine.path("/etc/wpa_supplicant/wpa_supplicant-wlan0.conf").read_text()
    assert "country" not in network and "key_mgmt=NONE" in network and "scan_ssid=1" in network
