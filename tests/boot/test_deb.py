"""The Debian package, on a Debian: installed, upgraded, removed and purged by dpkg, without internet."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device.boards import Board
from tests.device.machine import Machine, booted
from tests.device.test_service import PYTHON, UNIT, finds_the_cat, token
from tests.processes import ROOT, serving

MACHINES = {"arm64": 183, "amd64": 62}
"""EM_AARCH64 and EM_X86_64 of ELF."""


def made(folder: Path, bundle: Path, arch: str = "amd64") -> Path:
    command = [sys.executable, str(ROOT / "scripts/deb"), "--arch", arch, "--bundle", str(bundle), "--output", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Path(ended.stdout.split(": ")[0])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts/bundle makes for this machine's kind."""
    packed = tmp_path_factory.mktemp("bundle") / "bundle.tar"
    command = [sys.executable, str(ROOT / "scripts/bundle"), "--python", PYTHON, "--output", str(packed)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return packed


@pytest.fixture(scope="module")
def package(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("deb"), bundle)


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine"), {"/root/edge-mcp.deb": package}) as machine:
        yield machine


def installed(machine: Machine, package: str = "/root/edge-mcp.deb") -> None:
    machine.run("dpkg", "--force-confold", "--install", package)
    machine.until(UNIT, ActiveState="active", SubState="running", UnitFileState="enabled")


def test_it_serves_as_soon_as_it_is_installed_and_is_upgraded_and_purged(machine: Machine, package: Path) -> None:
    installed(machine)
    first = token(machine)
    finds_the_cat(machine)
    assert machine.run("stat", "-c", "%a %U", "/etc/edge-mcp/token").stdout == "600 root\n"
    assert "detect_objects" in machine.run("edge-mcp", "models", "list").stdout
    assert machine.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{UNIT}").stderr == ""
    assert machine.run("dpkg", "--verify", "edge-mcp").stdout == ""
    machine.path("/root/install").write_bytes((ROOT / "scripts/install").read_bytes())
    for words in ((), ("--uninstall",)):
        refused = machine.run("python3", "/root/install", *words, check=False)
        assert "edge-mcp is installed as a Debian package. Take that away first: apt remove edge-mcp" in refused.stderr
    machine.run("systemctl", "enable", "--quiet", "edge-mcp-gateway.service", "edge-mcp.socket")

    settings = machine.path("/etc/edge-mcp/edge-mcp.toml")
    settings.write_text(settings.read_text() + 'name = "den"\n')
    raw = machine.folder / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(raw)], check=True)
    control = raw / "DEBIAN/control"
    control.write_text(control.read_text().replace("-1~deb", "-2~deb"))
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(raw), str(machine.path("/root/newer.deb"))], check=True
    )
    before = machine.show(UNIT, "MainPID")
    installed(machine, "/root/newer.deb")
    assert machine.show(UNIT, "MainPID") != before
    assert token(machine) == first
    assert 'name = "den"' in settings.read_text()
    finds_the_cat(machine)

    machine.run("dpkg", "--remove", "edge-mcp")
    assert machine.show(UNIT, "ActiveState")["ActiveState"] == "inactive"
    assert not machine.path("/usr/lib/edge-mcp").exists()
    assert settings.exists()
    assert token(machine) == first
    installed(machine)  # again
    finds_the_cat(machine)
    assert machine.show("edge-mcp-gateway.service", "UnitFileState") == {"UnitFileState": "enabled"}

    machine.run("dpkg", "--remove", "edge-mcp")
    machine.path("/opt/edge-mcp").mkdir()
    machine.run("ln", "-s", "versions/x", "/opt/edge-mcp/current")  # as if scripts/install had come after it
    machine.run("dpkg", "--purge", "edge-mcp")
    assert token(machine) == first
    assert 'name = "den"' in settings.read_text()
    machine.run("rm", "-r", "/opt/edge-mcp")
    installed(machine)
    machine.run("dpkg", "--purge", "edge-mcp")
    found = machine.run("find", "/", "-xdev", "(", "-name", "*edge-mcp*", "-o", "-name", "*edge_mcp*", ")").stdout.split()
    assert [
        path for path in found if path not in ("/root/edge-mcp.deb",) and not path.startswith(("/proc", "/var/log", "/sys"))
    ] == []


def test_it_does_not_take_the_place_of_an_installed_one(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/opt/edge-mcp")
    machine.run("ln", "-sfn", "versions/x", "/opt/edge-mcp/current")
    try:
        refused = machine.run("dpkg", "--install", "/root/edge-mcp.deb", check=False)
    finally:
        machine.run("rm", "-r", "/opt/edge-mcp")
        machine.run("dpkg", "--purge", "edge-mcp", check=False)
    assert refused.returncode != 0
    assert "edge-mcp was installed here by scripts/install. Take that away first" in refused.stderr


def test_the_same_content_is_the_same_package(bundle: Path, package: Path, tmp_path: Path) -> None:
    again = made(tmp_path, bundle)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()
    shutil.rmtree(tmp_path)


def test_what_is_in_it(package: Path, tmp_path: Path) -> None:
    contents(package, "amd64", tmp_path)


async def test_a_board_runs_what_is_in_that_of_a_pi(bundles: tuple[Path, ...], tmp_path: Path) -> None:
    board = Board("pi4", tmp_path / "board", tmp_path)
    contents(made(tmp_path, bundles[0], "arm64"), "arm64", tmp_path / "board/upper")
    (tmp_path / "board/upper/opt").mkdir()
    (tmp_path / "board/upper/opt/site").symlink_to("/usr/lib/edge-mcp/site")  # there is no shell for /usr/bin/edge-mcp
    async with serving("--stdio", program=board.command("python3", "-m", "edge_mcp", "serve")) as served:
        result = await served.call("detect_language", text="Wo bitte geht es hier zum Bahnhof?")
        assert result["structuredContent"]["labels"][0]["label"] == "de"


def contents(package: Path, arch: str, folder: Path) -> None:
    """Unpack it into `folder`, and see that it is for `arch`."""
    fields = subprocess.run(["dpkg-deb", "--field", str(package)], capture_output=True, text=True, check=True).stdout
    assert "python3 (>= 3.13~), python3 (<< 3.14~)" in fields
    assert f"Architecture: {arch}" in fields
    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True)
    libraries = [file for file in folder.rglob("*.so*") if file.suffix != ".socket"]
    assert libraries
    for library in libraries:
        assert int.from_bytes(library.read_bytes()[18:20], "little") == MACHINES[arch], library
    for unit in (folder / "usr/lib/systemd/system").rglob("*.*"):
        if unit.is_file():
            assert "/opt/" not in unit.read_text()
    said = (folder / "usr/share/doc/edge-mcp/copyright").read_text()
    assert "onnxruntime" in said
    assert "License: MIT" in said
    assert os.access(folder / "usr/bin/edge-mcp", os.X_OK)
