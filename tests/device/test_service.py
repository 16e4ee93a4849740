"""A machine's life with edge-mcp, on a real one: installed, watched, reloaded, upgraded, taken away."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.device.machine import Machine, booted

ROOT = Path(__file__).parents[2]
UNIT = "edge-mcp.service"
PYTHON = "3.13"
"""What the machine has."""
URL = "wss://127.0.0.1:8765/mcp"
INSTALL = "/root/bundle/install"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that `scripts/bundle` makes for such a machine."""
    made = tmp_path_factory.mktemp("bundle") / "bundle.tar"
    command = [sys.executable, str(ROOT / "scripts/bundle"), "--python", PYTHON, "--output", str(made)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"{made}: " in ended.stdout
    return made


def changed(bundle: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A bundle of another version, with other content."""
    other = bundle.with_name(f"other-{time.monotonic_ns()}.tar")
    with tarfile.open(bundle) as archive:
        content = {member.name: _read(archive, member) for member in archive.getmembers()}
    name = next(path for path in content if path.endswith(f"requirements-{PYTHON}.txt"))
    content[name] += f"# {other.name}\n".encode()
    change(content)
    with tarfile.open(other, "w") as archive:
        for path, data in content.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return other


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    assert opened is not None
    return opened.read()


SERVICES = (UNIT, "edge-mcp-gateway.service")


@pytest.fixture(scope="module")
def machine(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One on which edge-mcp is installed, from a bundle and without internet: it has no network but its own."""
    with booted(tmp_path_factory.mktemp("machine"), {"/root/bundle.tar": bundle}) as machine:
        machine.run("sh", "-c", "mkdir /root/bundle && tar -xf /root/bundle.tar -C /root/bundle --strip-components=1")
        openssl = machine.path("/usr/bin/openssl")
        openssl.rename(openssl.with_name("away"))
        ended = machine.run(INSTALL, check=False)
        assert ended.returncode == 1 and "apt install openssl" in ended.stderr and not machine.path("/opt/edge-mcp").exists()
        openssl.with_name("away").rename(openssl)
        ended = machine.run(INSTALL)
        assert "edge-mcp is running" in ended.stdout
        assert "Authorization: Bearer" in ended.stdout
        assert "certificate: sha256:" in ended.stdout
        yield machine


def token(machine: Machine) -> str:
    return machine.path("/etc/edge-mcp/token").read_text().strip()


def on_a_host(machine: Machine, *words: str, typed: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command in the machine's network but not on it."""
    process = machine.outside(
        *(sys.executable, "-m", "edge_mcp", *words),
        cwd=ROOT,
        env={**os.environ, "XDG_DATA_HOME": str(machine.folder / "host"), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(typed, timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def finds_the_cat(machine: Machine, **environment: str) -> None:
    environment = environment or {"EDGE_MCP_TOKEN": token(machine)}
    words = ("call", "detect_objects", "image=@tests/fixtures/chelsea.png", "--json", "--url", URL)
    ended = on_a_host(machine, *words, **environment)
    assert ended.returncode == 0, ended.stderr
    assert "Cat" in json.dumps(json.loads(ended.stdout))


def until_it_says(machine: Machine, words: str, but: str = "never") -> None:
    """Wait for a line of the service's own in `systemctl status`."""
    deadline = time.monotonic() + 60
    while words not in (said := machine.show(UNIT, "StatusText")["StatusText"]) or but in said:
        assert time.monotonic() < deadline, said + machine.journal(UNIT)


def main_pid(machine: Machine) -> str:
    return machine.show(UNIT, "MainPID")["MainPID"]


def test_it_is_installed_running_and_hardened(machine: Machine) -> None:
    machine.until(UNIT, ActiveState="active", SubState="running", NRestarts="0", UnitFileState="enabled")
    assert "8 models" in machine.show(UNIT, "StatusText")["StatusText"]
    finds_the_cat(machine)
    assert "detect_objects" in machine.run("edge-mcp", "models", "list").stdout
    assert machine.run("stat", "-c", "%a %U", "/etc/edge-mcp/token").stdout == "600 root\n"
    assert int(machine.run("ps", "-o", "uid=", "-p", main_pid(machine)).stdout) in range(61184, 65520)  # DynamicUser
    for unit in (*SERVICES, "edge-mcp.socket"):
        assert machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}").stderr == ""
    for unit in SERVICES:
        assert machine.show(unit, "Type", "RestartSteps") == {"Type": "notify-reload", "RestartSteps": "5"}
        rating = machine.run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout.strip().splitlines()[-1]
        sys.stderr.write(f"{rating}\n")
        assert float(rating.split()[-3]) <= 1.5


def test_no_systemd_complains_of_the_units(tmp_path: Path) -> None:
    """This machine's, which may be older than the device's: what only newer ones know is in a file of its own."""
    programs = r"/opt/edge-mcp/current/bin/edge-mcp|/opt/edge-mcp/guard|%h/.local/bin/edge-mcp"
    for file in [*ROOT.glob("systemd/edge-mcp*"), ROOT / "systemd/user/edge-mcp.service"]:
        folder = tmp_path / file.parent.name
        folder.mkdir(exist_ok=True)
        (folder / file.name).write_text(re.sub(programs, "/bin/true", file.read_text()))
    (tmp_path / "run").mkdir(mode=0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    for scope, files in (("--system", "systemd"), ("--user", "user")):
        command = ["systemd-analyze", scope, "verify", *map(str, tmp_path.glob(f"{files}/*"))]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_left_alone_it_writes_nothing_and_says_nothing(machine: Machine) -> None:
    finds_the_cat(machine)
    pid = main_pid(machine)
    pids = (pid, *machine.run("pgrep", "--parent", pid).stdout.split())
    assert len(pids) == 2, "server and engine"

    def seen() -> tuple[str, ...]:
        counts = (machine.run("grep", "write_bytes\\|wchar", f"/proc/{pid}/io").stdout for pid in pids)
        return (*counts, machine.journal(UNIT))

    deadline = time.monotonic() + 60
    before, since = seen(), time.monotonic()
    while time.monotonic() < since + 5:  # what follows a call, as measuring, has ended
        assert time.monotonic() < deadline, before
        time.sleep(0.5)
        if (now := seen()) != before:
            before, since = now, time.monotonic()


def test_the_doctor_knows_the_service_and_what_was_changed_of_its_unit(machine: Machine) -> None:
    said = machine.run("edge-mcp", "doctor", check=False).stdout
    assert "ok       service: active: " in said and "ok       unit: as shipped" in said, said
    unit = machine.path(f"/etc/systemd/system/{UNIT}")
    shipped = unit.read_bytes()
    try:
        unit.write_bytes(shipped + b"# mine\n")
        machine.run("systemctl", "daemon-reload")
        said = machine.run("edge-mcp", "doctor", check=False).stdout
        assert f"note     unit: /etc/systemd/system/{UNIT} is not as shipped" in said, said
    finally:
        unit.write_bytes(shipped)
        machine.run("systemctl", "daemon-reload")


def test_a_new_token_is_one_of_the_service(machine: Machine) -> None:
    before = token(machine)
    said = machine.run("edge-mcp", "token", "--new").stdout
    assert token(machine) != before and token(machine) in said
    name = machine.run("hostname").stdout.strip()
    assert f"https://{name}.local:8765/mcp" in said and "systemctl restart edge-mcp" in said
    assert machine.run("stat", "-c", "%a %U", "/etc/edge-mcp/token").stdout == "600 root\n"
    finds_the_cat(machine, EDGE_MCP_TOKEN=before)  # systemd's copy is from the start
    machine.run("systemctl", "restart", UNIT)
    finds_the_cat(machine)


def test_installing_again_changes_nothing(machine: Machine) -> None:
    before = token(machine), machine.run("readlink", "/opt/edge-mcp/current").stdout
    at_once = machine.run("flock", "/opt/edge-mcp", INSTALL, check=False)
    assert (at_once.returncode, "by somebody else" in at_once.stderr) == (1, True)
    assert "edge-mcp is running" in machine.run(INSTALL).stdout
    assert (token(machine), machine.run("readlink", "/opt/edge-mcp/current").stdout) == before
    finds_the_cat(machine)


def test_a_host_pairs_by_the_digits_that_the_owner_sees(machine: Machine) -> None:
    digits = machine.run("edge-mcp", "pair").stdout
    other = {"XDG_DATA_HOME": str(machine.folder / "laptop")}
    ended = on_a_host(machine, "pair", URL, typed=digits, **other)
    assert ended.returncode == 0, ended.stderr
    finds_the_cat(machine, **other)
    (host,) = machine.run("edge-mcp", "token", "--list").stdout.splitlines()
    machine.run("edge-mcp", "token", "--revoke", host.split()[0])
    assert on_a_host(machine, "call", "detect_language", "text=Hallo", "--url", URL, **other).returncode == 1


def test_the_gateway_is_a_service_too(machine: Machine) -> None:
    unit = "edge-mcp-gateway.service"
    options = f"--device here={URL} --device-token-file ${{CREDENTIALS_DIRECTORY}}/token"
    drop_in = machine.path(f"/etc/systemd/system/{unit}.d")
    command = "/opt/edge-mcp/current/bin/edge-mcp gateway --listen *:8766"
    (drop_in / "here.conf").write_text(f"[Service]\nExecStart=\nExecStart={command} {options}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--quiet", unit)
    machine.run("systemctl", "start", "--no-block", unit)
    try:
        machine.until(unit, ActiveState="active", StatusText="many devices as one")
        words = ("call", "detect_language", "text=Wo ist der Bahnhof?", "--json", "--url", URL.replace("8765", "8766"))
        deadline = time.monotonic() + 60
        while "de" not in (ended := on_a_host(machine, *words, EDGE_MCP_TOKEN=token(machine))).stdout:
            assert time.monotonic() < deadline, ended.stderr + machine.journal(unit)
        machine.run("systemctl", "reload", unit)
        machine.until(unit, ActiveState="active", NRestarts="0")
    finally:
        machine.run("systemctl", "disable", "--quiet", "--now", unit)
        (drop_in / "here.conf").unlink()
        machine.run("systemctl", "daemon-reload")


def test_a_server_that_hangs_is_started_again_by_the_watchdog(machine: Machine) -> None:
    drop_in = machine.path(f"/etc/systemd/system/{UNIT}.d")
    (drop_in / "soon.conf").write_text("[Service]\nWatchdogSec=3\nRestartSec=0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    try:
        pid = main_pid(machine)
        time.sleep(4)  # it is fed
        assert main_pid(machine) == pid
        machine.run("kill", "-STOP", pid)
        machine.until(UNIT, NRestarts="1", ActiveState="active")
        assert main_pid(machine) != pid
        assert "Watchdog timeout" in machine.journal(UNIT)
        finds_the_cat(machine)
    finally:
        (drop_in / "soon.conf").unlink()
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", UNIT)


def test_a_reload_takes_up_a_new_model_and_loses_no_call(machine: Machine) -> None:
    pid = main_pid(machine)
    caller = machine.outside(
        *(sys.executable, str(Path(__file__).with_name("caller.py")), URL),
        cwd=ROOT,
        env={**os.environ, "EDGE_MCP_TOKEN": token(machine), "XDG_DATA_HOME": str(machine.folder / "host")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == '"calling"\n'
    for _ in range(10):
        machine.run("systemctl", "reload", UNIT)
    out, _ = caller.communicate("", timeout=60)
    told = json.loads(out)
    assert told["answered"] > 20
    assert told["failed"] == 0
    assert machine.journal(UNIT).count("Reloaded") >= 10  # one of systemd's own lines for each
    assert main_pid(machine) == pid


def test_a_reload_takes_up_settings_and_tells_of_wrong_ones(machine: Machine) -> None:
    settings, pid = machine.path("/etc/edge-mcp/edge-mcp.toml"), main_pid(machine)
    before = settings.read_text()
    try:
        settings.write_text(before + 'lanes = 1\nname = "den"\n')
        machine.run("systemctl", "reload", UNIT)
        until_it_says(machine, "lanes of the settings: after a restart")
        settings.write_text(before + "lanes = many\n")
        machine.run("systemctl", "reload", UNIT)
        until_it_says(machine, "; the settings stay as they were: /etc/edge-mcp/edge-mcp.toml is not valid TOML")
        finds_the_cat(machine)
    finally:
        settings.write_text(before)
        machine.run("systemctl", "reload", UNIT)
    until_it_says(machine, "9 tools, state ", but=";")
    assert main_pid(machine) == pid


def test_a_user_has_it_as_a_service_of_their_own(machine: Machine) -> None:
    """As after `pipx install`: the program in ~/.local/bin, the unit anywhere."""
    machine.run("useradd", "--create-home", "--shell", "/bin/sh", "ann")
    uid = machine.run("id", "-u", "ann").stdout.strip()
    drop_in = machine.path("/etc/systemd/system/user@.service.d")
    drop_in.mkdir()  # what libpam-systemd sees to, which this machine has not
    (drop_in / "pam.conf").write_text("[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"user@{uid}")

    def as_ann(*words: str, check: bool = True) -> str:
        user = ("runuser", "-u", "ann", "--", "env", "-C", "/home/ann", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/ann")
        return machine.run(*user, *words, check=check).stdout.strip()

    try:
        as_ann("mkdir", "-p", ".local/bin", ".config/edge-mcp")
        as_ann("ln", "-s", "/opt/edge-mcp/current/bin/edge-mcp", ".local/bin/edge-mcp")
        unit = machine.path("/home/ann/edge-mcp.service")
        unit.write_bytes((ROOT / "systemd/user/edge-mcp.service").read_bytes())
        machine.path("/home/ann/.config/edge-mcp/edge-mcp.toml").write_text('listen = "127.0.0.1:8767"\n')
        as_ann("systemctl", "--user", "enable", "--now", "--quiet", "/home/ann/edge-mcp.service")
        assert as_ann("systemctl", "--user", "is-active", "edge-mcp") == "active"
        user_unit = "/home/ann/.config/systemd/user/edge-mcp.service"
        assert as_ann("systemd-analyze", "--user", "verify", user_unit) == ""
        url = "ws://127.0.0.1:8767/mcp"
        ended = on_a_host(machine, "call", "detect_language", "text=Wo ist der Bahnhof?", "--json", "--url", url)
        assert "de" in ended.stdout, ended.stderr
        as_ann("systemctl", "--user", "reload", "edge-mcp")
        as_ann("systemctl", "--user", "disable", "--now", "--quiet", "edge-mcp")
        assert as_ann("systemctl", "--user", "is-active", "edge-mcp", check=False) == "inactive"
    finally:
        machine.run("systemctl", "stop", f"user@{uid}")
        machine.run("userdel", "--remove", "ann")
        (drop_in / "pam.conf").unlink()
        drop_in.rmdir()
        machine.run("systemctl", "daemon-reload")


def test_its_port_stays_open_while_nobody_serves_and_the_next_peer_starts_it(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    settings = machine.path("/etc/edge-mcp/edge-mcp.toml")
    before = settings.read_text()
    settings.write_text(before + "exit_idle_s = 2\n")
    try:
        machine.run("systemctl", "enable", "--quiet", "--now", "edge-mcp.socket")
        machine.until(UNIT, ActiveState="inactive")
        finds_the_cat(machine)
        machine.until(UNIT, ActiveState="inactive", SubState="dead")
        finds_the_cat(machine)
    finally:
        settings.write_text(before)
        machine.run("systemctl", "disable", "--quiet", "--now", "edge-mcp.socket")
        machine.run("systemctl", "restart", UNIT)


def test_an_upgrade_is_taken_up_and_one_that_does_not_start_is_taken_back(machine: Machine, bundle: Path) -> None:
    def upgrade(change: Callable[[dict[str, bytes]], None]) -> "subprocess.CompletedProcess[str]":
        machine.path("/root/next.tar").write_bytes(changed(bundle, change).read_bytes())
        return machine.run(INSTALL, "--offline", "/root/next.tar", check=False)

    def break_unit(content: dict[str, bytes]) -> None:
        name = next(path for path in content if path.endswith(UNIT))
        content[name] = content[name].replace(b"edge-mcp serve", b"edge-mcp serve --no-such-flag")

    def break_wheel(content: dict[str, bytes]) -> None:
        name = next(path for path in content if "/wheels/msgspec-" in path)
        content[name] = content[name][:-100] + bytes(100)

    first, kept = machine.run("readlink", "/opt/edge-mcp/current").stdout, token(machine)
    ended = upgrade(lambda content: None)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    second = machine.run("readlink", "/opt/edge-mcp/current").stdout
    assert second != first and token(machine) == kept
    finds_the_cat(machine)

    versions = machine.path("/opt/edge-mcp/versions")
    (versions / "half-done").mkdir()
    (machine.path("/opt/edge-mcp") / ".bundle-half-done").mkdir()
    machine.run(INSTALL, "--offline", "/root/next.tar")
    assert not list(machine.path("/opt/edge-mcp").glob(".bundle-*"))
    assert {path.name for path in versions.iterdir()} == {Path(link.strip()).name for link in (first, second)}
    finds_the_cat(machine)

    ended = upgrade(break_unit)
    assert ended.returncode == 1
    assert "does not become healthy" in ended.stdout and f"{Path(second.strip()).name} runs again" in ended.stderr
    assert machine.run("readlink", "/opt/edge-mcp/current").stdout == second
    assert b"no-such-flag" not in machine.path(f"/etc/systemd/system/{UNIT}").read_bytes()
    finds_the_cat(machine)

    ended = upgrade(break_wheel)
    assert ended.returncode == 1 and "msgspec" in ended.stderr
    assert machine.run("readlink", "/opt/edge-mcp/current").stdout == second
    finds_the_cat(machine)


def test_an_upgrade_that_the_power_cut_short_is_taken_back_when_it_does_not_start(machine: Machine) -> None:
    good = machine.run("readlink", "/opt/edge-mcp/current").stdout.strip()
    broken = machine.path("/opt/edge-mcp/versions/broken")
    (broken / "bin").mkdir(parents=True)
    (broken / "bin/edge-mcp").write_text("#!/bin/sh\nexit 7\n")
    (broken / "bin/edge-mcp").chmod(0o755)
    machine.path("/opt/edge-mcp/trial").write_text(f"{Path(good).name} 0\n")
    machine.run("ln", "-sfn", "versions/broken", "/opt/edge-mcp/current")
    machine.run("systemctl", "restart", "--no-block", UNIT)
    machine.until(UNIT, ActiveState="active")
    assert machine.run("readlink", "/opt/edge-mcp/current").stdout.strip() == good
    assert not machine.path("/opt/edge-mcp/trial").exists()
    finds_the_cat(machine)


def test_taken_away_nothing_is_left(machine: Machine) -> None:
    find = ("sh", "-c", "find / -xdev -name '*edge-mcp*' -not -path '/root/*' -not -path '/proc/*' -not -path '/tmp/*'")
    machine.run(INSTALL, "--uninstall", "--keep-data")
    assert machine.show(UNIT, "LoadState") == {"LoadState": "not-found"}
    left = set(machine.run(*find).stdout.split())
    of_the_gateway = {"/var/lib/edge-mcp-gateway", "/var/lib/private/edge-mcp-gateway"}  # where it ran before
    assert left - of_the_gateway == {
        *("/etc/edge-mcp", "/etc/edge-mcp/edge-mcp.toml"),
        *("/var/lib/edge-mcp", "/var/lib/private/edge-mcp"),
    }
    kept = token(machine)
    machine.run(INSTALL)
    assert token(machine) == kept
    finds_the_cat(machine)
    machine.run(INSTALL, "--uninstall")
    assert machine.run(*find).stdout == ""
    assert machine.run("systemctl", "--failed", "--quiet").stdout == ""
