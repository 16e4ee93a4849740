"""The very image of `scripts/flash image`, booted as a Raspberry Pi 3 from its own boot partition.

What this shows: kernel, initrd, device tree and command line that are on the card boot the rest of the card.
What it cannot show: the firmware that loads them (bootcode.bin, start*.elf, config.txt), wireless networks, other
boards, and how fast any of it is.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_mcp.client import connect
from tests.boot.installed import CALLS, say
from tests.device.test_boards import alike
from tests.processes import ROOT

TOKEN = "the-token-that-came-with-the-card"  # noqa: S105 - of this test
BOOT_AT = "@@4M"
CARD_BYTES = 4 << 30  # of the emulated card a power of two
BOOT_S, RUN_S = 1200.0, 300.0
# A board in QEMU takes minutes for what a real one does in seconds, and systemd gives up a disk after 90 s.
PATIENT = "systemd.default_device_timeout_sec=900 systemd.default_timeout_start_sec=900"
NEEDED = {"qemu-system-aarch64": "qemu-system-arm", "mcopy": "mtools", "ssh": "openssh-client", "mmdebstrap": "mmdebstrap"}


@dataclass
class Card:
    """A card in a board: what it boots from, and ports of this machine that lead to the board's."""

    folder: Path
    port: int
    ssh_port: int

    def run(self, command: str) -> str:
        """What a command says on the board."""
        options = ["UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR", "ConnectTimeout=60"]
        login = ["ssh", "-i", str(self.folder / "key"), "-p", str(self.ssh_port), *(f"-o{option}" for option in options)]
        ended = subprocess.run([*login, "edge@127.0.0.1", command], capture_output=True, text=True, timeout=RUN_S, check=False)
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}\n{self.console()}"
        return ended.stdout.strip()

    def console(self) -> str:
        log = self.folder / "console"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""


@pytest.fixture(scope="module")
def card(bundles: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a card, its key, and what the firmware of a board would load from the card."""
    missing = sorted(package for program, package in NEEDED.items() if shutil.which(program) is None)
    assert not missing, f"this test needs: apt-get install {' '.join(missing)}"
    folder = tmp_path_factory.mktemp("card")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    (folder / "token").write_text(TOKEN)
    wishes = ("--ssh-key", str(folder / "key.pub"), "--token-file", str(folder / "token"), "--timezone", "Europe/Berlin")
    since = time.monotonic()
    command = [sys.executable, "scripts/flash", "image", str(folder / "card.img"), "--bundle", str(bundles[0]), *wishes]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "edge-mcp discover" in ended.stdout
    say(f"the image was made in {time.monotonic() - since:.0f} s, {(folder / 'card.img').stat().st_size >> 20} MiB")
    names = on_the_boot_partition(folder)
    assert "edge-mcp-card.toml" in names
    wanted = ("vmlinuz-", "initrd.img-", "bcm2837-rpi-3-b.dtb", "cmdline.txt")
    for name in names:
        if name.startswith(wanted):
            subprocess.run(["mcopy", "-i", f"{folder / 'card.img'}{BOOT_AT}", f"::/{name}", str(folder)], check=True)
    os.truncate(folder / "card.img", CARD_BYTES)
    return folder


def on_the_boot_partition(folder: Path) -> list[str]:
    listed = subprocess.run(
        ["mdir", "-i", f"{folder / 'card.img'}{BOOT_AT}", "-b", "::/"], capture_output=True, text=True, check=True
    )
    return [line.removeprefix("::/") for line in listed.stdout.splitlines()]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def switched_on(folder: Path) -> Iterator[Card]:
    """The board with this card, once it is possible to log in; switched off at the end, and the card's disk is clean."""
    board = Card(folder, free_port(), free_port())
    line = (folder / "cmdline.txt").read_text().replace("console=tty0", "").strip()
    forwarded = f"hostfwd=tcp:127.0.0.1:{board.port}-:8765,hostfwd=tcp:127.0.0.1:{board.ssh_port}-:22"
    (folder / "console").unlink(missing_ok=True)
    machine = subprocess.Popen(
        [
            *("qemu-system-aarch64", "-M", "raspi3b", "-nographic", "-monitor", "none", "-no-reboot"),
            *("-serial", f"file:{folder / 'console'}", "-append", f"console=ttyAMA0,115200 {line} {PATIENT}"),
            *("-kernel", str(next(folder.glob("vmlinuz-*"))), "-initrd", str(next(folder.glob("initrd.img-*")))),
            *("-dtb", str(folder / "bcm2837-rpi-3-b.dtb"), "-drive", f"file={folder / 'card.img'},if=sd,format=raw"),
            *("-device", "usb-net,netdev=n", "-netdev", f"user,id=n,restrict=on,{forwarded}"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        since = time.monotonic()
        while True:
            try:
                board.run("true")
                break
            except (AssertionError, subprocess.TimeoutExpired):
                assert machine.poll() is None, board.console()
                if time.monotonic() - since > BOOT_S:
                    raise
                time.sleep(2)
        say(f"one can log in {time.monotonic() - since:.0f} s after it was switched on")
        until(board, "systemctl is-active --quiet edge-mcp.service")
        say(f"the service is active after {time.monotonic() - since:.0f} s")
        until(board, 'test -z "$(systemctl list-jobs --no-legend)"')
        yield board
        try:
            board.run("sudo systemctl poweroff")
        except AssertionError:
            say("the connection ended with the board")
        machine.wait(RUN_S)
    finally:
        if machine.poll() is None:
            machine.send_signal(signal.SIGKILL)
            machine.wait()


def until(board: Card, command: str) -> None:
    deadline = time.monotonic() + BOOT_S
    while True:
        try:
            board.run(command)
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


def sectors_in_three_idle_minutes(board: Card) -> int:
    """That anybody wrote to the card, once what belongs to the boot is on it."""
    written = "xargs </sys/block/mmcblk0/stat | cut -d' ' -f7"
    board.run("sync; sleep 120; sync")
    before = int(board.run(written))
    for _ in range(2):
        board.run("sleep 90")
    return int(board.run(written)) - before


def finds_the_cat(board: Card, here: dict[str, object]) -> None:
    async def call() -> dict[str, object]:
        certificate = board.run("sudo openssl x509 -in /var/lib/edge-mcp/tls/certificate.pem -outform der | sha256sum").split()[
            0
        ]
        url = f"wss://127.0.0.1:{board.port}/mcp"
        async with connect(url, token=TOKEN, fingerprint=f"sha256:{certificate}", timeout=RUN_S, retries=10) as device:
            result = await device.call("detect_objects", **CALLS["detect_objects"])
        return {name: value for name, value in (result.structured or {}).items() if name != "inference_ms"}

    since = time.monotonic()
    alike({"detect_objects": asyncio.run(call())}, {"detect_objects": here["detect_objects"]})
    say(f"detect_objects answered right, {time.monotonic() - since:.0f} s")


def test_the_first_boot_makes_a_device_of_its_own_and_the_second_changes_nothing(card: Path, here: dict[str, object]) -> None:
    with switched_on(card) as board:
        assert board.run("systemctl --failed --quiet --plain --no-legend") == ""
        name = board.run("hostname")
        assert name.startswith("edge-")
        assert len(name) == len("edge-0000")
        assert int(board.run("df --output=size -B1M / | tail -1")) > 3000  # of 4096; the image has 1000
        assert board.run("ls /etc/ssh/ssh_host_*_key | wc -l") == "3"
        assert board.run("cat /etc/machine-id") != "uninitialized"
        assert board.run("readlink /etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin"
        assert board.run("sudo ls /boot/firmware | grep -c edge-mcp || true") == "0"
        assert board.run("systemctl is-enabled edge-mcp-gateway.service edge-mcp.socket || true") == "disabled\ndisabled"
        keys = board.run("cat /etc/ssh/ssh_host_ed25519_key.pub")
        finds_the_cat(board, here)
        errors = board.run("sudo journalctl --boot --quiet --unit=edge-mcp --priority=warning --output=cat")
        assert "Traceback" not in errors
    assert not [entry for entry in on_the_boot_partition(card) if "edge-mcp" in entry]
    with switched_on(card) as board:
        assert board.run("systemctl --failed --quiet --plain --no-legend") == ""
        assert board.run("hostname") == name
        assert board.run("cat /etc/ssh/ssh_host_ed25519_key.pub") == keys
        assert board.run("systemctl show --value --property=NRestarts edge-mcp.service") == "0"
        finds_the_cat(board, here)
        written = sectors_in_three_idle_minutes(board)
        say(f"{written} sectors were written to the card in three idle minutes")
        assert written == 0
