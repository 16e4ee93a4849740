"""The power goes in the middle of a change: the computer works afterwards, with what was before it or what comes after it."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.boot.installed import UNIT, Installed, complaints, say
from tests.boot.vm import Computer

ADD = "/usr/local/bin/edge-mcp models add /root/object-detector"
UPGRADE = "/root/bundle/install --offline /dev/vdc"
PHASES = ("installing into", "trying its models", "trying it\n")
"""What the installer says at the beginning of each."""
OLD, NEW = "1.0.0", "1.0.1"
PATIENCE_S = 1800.0


def begin(computer: Computer, command: str) -> None:
    """Start a command that goes on when nobody watches; what it says is in /root/said."""
    output = "--property=StandardOutput=truncate:/root/said --property=StandardError=append:/root/said"
    computer.run(f"rm -f /root/said; systemd-run --quiet --unit=change --collect {output} {command}")


def watch(computer: Computer, words: str) -> str:
    """Wait until the command has said something, or has ended; everything that it said."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        over = computer.run("systemctl is-active change", check=False) in ("inactive\n", "failed\n")
        said = computer.run("cat /root/said")
        if words and words in said:
            return said
        if over:
            assert not words, f"it ended before {words!r}: {said}"
            return said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def version(computer: Computer) -> str:
    """Of the object detector that would be served."""
    listed = computer.run("edge-mcp models list | grep object-detector")
    return NEW if NEW in listed else OLD


def works(computer: Computer, installed: Installed, here: dict[str, Any]) -> None:
    computer.until(f"systemctl is-active --quiet {UNIT}")
    installed.answers_right(computer, here, "detect_objects", "detect_faces")
    assert complaints(computer) == ""


@pytest.fixture(scope="module")
def whole_s(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long it takes to replace a model."""
    with installed.woken(tmp_path_factory.mktemp("whole") / "computer") as computer:
        since = time.monotonic()
        begin(computer, ADD)
        watch(computer, "")
        assert version(computer) == NEW
        return time.monotonic() - since


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_while_a_model_is_replaced(
    part: float, whole_s: float, installed: Installed, here: dict[str, Any], tmp_path: Path
) -> None:
    with installed.woken(tmp_path / "computer") as computer:
        begin(computer, ADD)
        time.sleep(whole_s * part)
        computer.cut()
    with installed.booted(tmp_path / "computer") as computer:
        works(computer, installed, here)
        say(f"cut {whole_s * part:.1f} s into the {whole_s:.1f} s of an update of a model: {version(computer)} after it")
        begin(computer, ADD)
        watch(computer, "")
        assert version(computer) == NEW
        works(computer, installed, here)


def test_while_it_is_upgraded(installed: Installed, here: dict[str, Any], tmp_path: Path) -> None:
    current = "readlink /opt/edge-mcp/current"
    with installed.woken(tmp_path / "computer") as computer:
        old = computer.run(current)
        begin(computer, UPGRADE)
        watch(computer, PHASES[0])
        time.sleep(20)
        computer.cut()
    for phase, wait_s in ((PHASES[1], 5), (PHASES[2], 4), (PHASES[2], 0)):
        with installed.booted(tmp_path / "computer") as computer:
            works(computer, installed, here)
            say(f"cut: {computer.run(current).strip()} runs, it was {old.strip()}; next cut {wait_s} s into {phase.strip()!r}")
            begin(computer, UPGRADE)
            watch(computer, phase)
            time.sleep(wait_s)
            computer.cut()
    with installed.booted(tmp_path / "computer") as computer:
        works(computer, installed, here)
        begin(computer, UPGRADE)
        assert "edge-mcp is running" in watch(computer, "")
        new = computer.run(current)
        assert new != old
        works(computer, installed, here)
        assert int(computer.run("ls /opt/edge-mcp/versions | wc -l")) == 2
        say(f"upgraded in the end: {new.strip()}")
