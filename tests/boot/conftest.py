"""What the tests with whole computers share: one on which edge-mcp was installed, as a snapshot that is there in a second.

They are not run by scripts/test but by scripts/test-device: they take half an hour.
"""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.boot.installed import READY, Installed, answers_here, say
from tests.boot.vm import Computer, disk
from tests.device.test_service import changed
from tests.processes import ROOT


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seconds",
        type=float,
        default=600,
        help="how long all models are called at random in 512 MB, and at most how long idling is watched",
    )


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """What scripts/bundle makes for a Pi, and the next version of it."""
    made = tmp_path_factory.mktemp("bundles") / "bundle.tar"
    options = ["--arch", "aarch64", "--python", "3.13", "--output", str(made)]
    command = [sys.executable, str(ROOT / "scripts/bundle"), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return made, changed(made, lambda content: None)


@pytest.fixture(scope="session")
def installed(bundles: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """scripts/install, run on the computer itself, from a bundle and without internet."""
    folder = tmp_path_factory.mktemp("computer") / "first"
    model = tmp_path_factory.mktemp("model") / "object-detector"
    shutil.copytree(ROOT / "models/object-detector", model)
    manifest = model / "model.toml"
    manifest.write_text(manifest.read_text().replace('version = "1.0.0"', 'version = "1.0.1"'))
    disk(folder, {"/root/object-detector": model})
    since = time.monotonic()
    with Computer(folder, bundles) as computer:
        say(f"first boot: the door is open after {time.monotonic() - since:.0f} s")
        since = time.monotonic()
        computer.run("mkdir /root/bundle && tar -xf /dev/vdb -C /root/bundle --strip-components=1")
        said = computer.run("/root/bundle/install")
        assert "edge-mcp is running" in said, said
        say(f"installed in {time.monotonic() - since:.0f} s")
        token = computer.run("cat /etc/edge-mcp/token").strip()
        fingerprint = next(line for line in said.splitlines() if "certificate: sha256:" in line).split()[-1]
        computer.off()
    since = time.monotonic()
    with Computer(folder, bundles) as computer:
        computer.until("systemctl is-active --quiet edge-mcp.service")
        say(f"second boot: the service is active after {time.monotonic() - since:.0f} s")
        computer.until('test -z "$(systemctl list-jobs --no-legend)"')
        computer.save(READY)
        computer.cut()
    return Installed(folder, bundles, token, fingerprint)


@pytest.fixture
def computer(installed: Installed, tmp_path: Path) -> Iterator[Computer]:
    """One that booted for the second time and has not been called yet."""
    with installed.woken(tmp_path / "computer") as computer:
        yield computer


@pytest.fixture(scope="session")
def here() -> dict[str, Any]:
    """What this machine answers."""
    return asyncio.run(answers_here())
