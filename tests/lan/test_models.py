"""Devices with the models that ship, on hosts of their own, as an owner uses them: found, paired with, and behind a gateway."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.discovery.segment import PATIENCE_S, address, discovered, edge_mcp_in, ran
from tests.lan.lab import GATEWAY_PORT, PORT, Lab, lab, running
from tests.transports.networks import Host

PHOTO = "image=@tests/fixtures/chelsea.png"


@pytest.fixture
def lan() -> Iterator[Lab]:
    with lab(4) as made:
        yield made


@contextmanager
def serving(host: Host, home: Path, name: str, *words: str, machine_id: int = 0) -> "Iterator[subprocess.Popen[str]]":
    """`edge-mcp serve` with the models that ship."""
    command = ("-m", "edge_mcp", "serve", "--listen", f"*:{PORT}", *words)
    with running(host, home, name, *command, machine_id=machine_id) as process:
        yield process


def found(host: Host, home: Path, *names: str) -> list[str]:
    """What these devices are called in the network, once all are found."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        here = discovered(host, home=home)
        called = [full for name in names for full in here if full.startswith(f"{name}-")]
        if len(called) == len(names):
            return called
        assert time.monotonic() < deadline, here


def sees_the_cat(host: Host, home: Path, *words: str) -> None:
    status, out, err = ran(host, "call", "detect_objects", PHOTO, "--json", *words, home=home)
    assert status == 0, err
    assert [one["label"] for one in json.loads(out)["detections"]] == ["Cat"]


def test_a_gateway_answers_for_devices_that_come_and_go(lan: Lab, tmp_path: Path) -> None:
    kitchen, garage, middle, laptop = lan.hosts
    gate = ("--url", f"ws://{address(3)}:{GATEWAY_PORT}/mcp")
    words = ("-m", "edge_mcp", "gateway", "--unknown", "--insecure", "--listen", f"*:{GATEWAY_PORT}")
    with (
        running(middle, tmp_path / "middle", "middle", *words),
        serving(kitchen, tmp_path / "kitchen", "kitchen", "--insecure", machine_id=1) as first,
    ):
        found(laptop, tmp_path / "laptop", "kitchen")
        sees_the_cat(laptop, tmp_path / "laptop", *gate)
        with serving(garage, tmp_path / "garage", "garage", "--insecure", machine_id=2):
            found(laptop, tmp_path / "laptop", "kitchen", "garage")
            first.kill()
            for _ in range(3):
                sees_the_cat(laptop, tmp_path / "laptop", *gate)


def test_a_host_pairs_with_a_device_by_its_name_and_is_the_only_one_let_in(lan: Lab, tmp_path: Path) -> None:
    device, laptop, stranger, _ = lan.hosts
    home = tmp_path / "device"
    home.mkdir()
    (home / "token").write_text("a-token-of-the-device-itself\n")
    (home / "token").chmod(0o600)
    with serving(device, home, "kitchen", "--tls", "--token-file", str(home / "token")):
        (name,) = found(laptop, tmp_path / "laptop", "kitchen")
        status, digits, err = ran(device, "pair", home=home)
        assert status == 0, err
        for wrong in ("000000", "12345"):
            if wrong not in digits.replace(" ", ""):
                assert _paired(laptop, tmp_path / "laptop", name, wrong)[0] == 1
        status, said = _paired(laptop, tmp_path / "laptop", name, digits)
        assert (status, f"paired with {name}" in said) == (0, True), said
        sees_the_cat(laptop, tmp_path / "laptop", "--on", name)
        status, out, err = ran(stranger, "call", "detect_objects", PHOTO, "--on", name, home=tmp_path / "stranger")
        assert (status, out) == (1, ""), "who is not paired is not let in"
        assert _paired(stranger, tmp_path / "stranger", name, digits)[0] == 1, "digits count once"


def _paired(host: Host, home: Path, name: str, digits: str) -> tuple[int, str]:
    process = edge_mcp_in(host, "pair", name, home=home, stdin=subprocess.PIPE)
    out, err = process.communicate(f"{digits.strip()}\n", timeout=PATIENCE_S)
    return process.returncode, out + err
