"""A card that Raspberry Pi Imager wrote, and scripts/flash first-boot added edge-mcp to, boots: with the real bundle, under
Debian's systemd and cloud-init, without internet. What only Raspberry Pi OS has is not proved: NetworkManager and firmware."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.card import test_first_boot as cards
from tests.device.machine import PACKAGES, Machine, booted, debian, ran
from tests.device.test_service import finds_the_cat
from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card import first_boot
from card.settings import Wishes

UNIT = "edge-mcp.service"
FIRST_BOOT = "edge-mcp-first-boot.service"
TOKEN = "a-token-of-the-owner"  # noqa: S105 - an example
WISHES = Wishes(name="attic", user="frida", ssh_key=cards.KEY, wifi="Frida's ☂", wifi_key="ab" * 32, country="DE", token=TOKEN)
# What Raspberry Pi OS 13 has in /etc/cloud/cloud.cfg.d.
CLOUD = "datasource_list: [ NoCloud, None ]\ndatasource:\n  NoCloud:\n    seedfrom: file:///boot/firmware\n"
THEIRS = {
    "user_data": "#cloud-config\ntimezone: Europe/London\nruncmd:\n- [ touch, /root/theirs ]\n",
    "meta_data": cards.META_DATA,
    "cmdline__txt": f"{cards.CMDLINE} ds=nocloud;i=rpi-imager-1787532598498\n",
}
RUN = cards.RUN.replace("/boot/", "/boot/firmware/")
FIRST_RUN = "#!/bin/bash\n\nset +e\n\ntouch /root/theirs\nrm -f /boot/firmware/firstrun.sh\n"
FIRST_RUN += "sed -i 's| systemd.run.*||g' /boot/firmware/cmdline.txt\nexit 0\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the machine that is booted here, with the Pythons of both systems."""
    made = tmp_path_factory.mktemp("bundle") / "bundle.tar"
    command = [sys.executable, str(ROOT / "scripts/bundle"), "--output", str(made)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return made


def card(folder: Path, bundle: Path, files: Mapping[str, str], wishes: Wishes = WISHES) -> Path:
    """A first partition as Imager leaves it, with edge-mcp."""
    folder.mkdir()
    cards.card(folder, **files)
    first_boot.put(folder, wishes, bundle, arch=os.uname().machine)
    for path in folder.rglob("*"):
        path.chmod(0o755)  # as on every FAT file system
    return folder


@pytest.fixture(scope="module")
def by_cloud_init(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("cloud")
    base = debian("--variant=minbase", f"--include={','.join((*PACKAGES, 'openssl', 'cloud-init'))}")
    (folder / "cloud.cfg").write_text(CLOUD)
    arguments = ["ds=nocloud;i=rpi-imager-1787532598498"]
    assert arguments[0] in THEIRS["cmdline__txt"]
    files = {
        "/boot/firmware": card(folder / "card", bundle, THEIRS),
        "/etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg": folder / "cloud.cfg",
    }
    with booted(folder, files, base, arguments) as machine:
        yield machine


@pytest.fixture(scope="module")
def by_first_run(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("firstrun")
    there = {"firstrun__sh": FIRST_RUN, "cmdline__txt": cards.CMDLINE + RUN + "\n"}
    made = card(folder / "card", bundle, there, replace(WISHES, timezone="Europe/Berlim"))  # which there is not
    arguments = [word for word in (made / "cmdline.txt").read_text().split() if word.startswith("systemd.")]
    assert len(arguments) == 3
    # The machine has no firmware that starts it again: it is switched off instead.
    ran(folder, {"/boot/firmware": made}, arguments=[word.replace("=reboot", "=poweroff") for word in arguments])
    assert (folder / "upper/boot/firmware/cmdline.txt").read_text() == cards.CMDLINE + "\n"
    assert (folder / "upper/boot/firmware/edge-mcp/bundle.tar").exists()
    with booted(folder) as machine:
        yield machine


@pytest.fixture(params=["by_cloud_init", "by_first_run"])
def machine(request: pytest.FixtureRequest) -> Machine:
    made: Machine = request.getfixturevalue(request.param)
    return made


def test_the_device_answers_and_is_as_was_wished(machine: Machine) -> None:
    machine.until(UNIT, 120, ActiveState="active", SubState="running", UnitFileState="enabled")
    finds_the_cat(machine, EDGE_MCP_TOKEN=TOKEN)
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"
    assert machine.run("hostname").stdout == "attic\n"
    assert cards.KEY in machine.run("cat", "/home/frida/.ssh/authorized_keys").stdout
    assert machine.run("stat", "-c", "%a %U", "/home/frida/.ssh/authorized_keys").stdout == "600 frida\n"
    wifi = machine.run("cat", "/etc/NetworkManager/system-connections/edge-mcp.nmconnection").stdout
    assert f"ssid={';'.join(str(byte) for byte in WISHES.wifi.encode())};\n" in wifi and f"psk={WISHES.wifi_key}\n" in wifi
    assert machine.run("stat", "-c", "%a", "/etc/NetworkManager/system-connections/edge-mcp.nmconnection").stdout == "600\n"


def test_what_imager_was_told_is_done_too(machine: Machine, by_cloud_init: Machine) -> None:
    machine.run("test", "-e", "/root/theirs")
    assert by_cloud_init.run("readlink", "-f", "/etc/localtime").stdout == "/usr/share/zoneinfo/Europe/London\n"
    said = by_cloud_init.run("cloud-init", "status", "--long", check=False).stdout
    assert "DataSourceNoCloud" in said and "file:///boot/firmware" in said, said
    by_cloud_init.run("cloud-init", "schema", "--config-file", "/boot/firmware/user-data")


def test_no_secret_and_nothing_else_of_it_stays_on_the_card(machine: Machine) -> None:
    machine.until(FIRST_BOOT, 60, ActiveState="inactive")
    left = machine.run("ls", "-A", "/boot/firmware").stdout.split()
    theirs = {"cmdline.txt", "config.txt", "issue.txt", "kernel_2712.img", "user-data", "meta-data"}
    assert set(left) <= {*theirs, "edge-mcp-error.txt"}
    if "user-data" not in left:
        said = machine.run("cat", "/boot/firmware/edge-mcp-error.txt").stdout
        assert said.startswith("edge-mcp is installed. This could not be done:\ntimezone: "), said
    for secret in (TOKEN, WISHES.wifi_key):
        assert machine.run("grep", "-r", secret, "/boot", "/var/lib/cloud", "/var/log", check=False).stdout == ""
        assert secret not in machine.run("journalctl", "--no-pager").stdout
    machine.run("test", "!", "-e", f"/etc/systemd/system/{FIRST_BOOT}")
