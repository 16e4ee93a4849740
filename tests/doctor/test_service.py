"""What the doctor says of the service, as systemd tells of it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_mcp.doctor.service import Programs, service
from edge_mcp.load.doctor import Finding
from tests.doctor.test_disk import put
from tests.load.test_doctor import device

GOOD = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "Result": "success",
    "ExecMainStatus": "0",
    "StatusText": "9 tools, state nominal",
    "NeedDaemonReload": "no",
}
AWAY = {"LoadState": "not-found", "ActiveState": "inactive"}
ETC, SHIPPED = "etc/systemd/system", "opt/edge-mcp/current/units"


def told(root: Path, warning: str = "", gateway: dict[str, str] = AWAY, **changed: str) -> dict[str, Finding]:
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)

    def run(words: Sequence[str]) -> str | None:
        if words[0] == "journalctl":
            return warning
        seen = gateway if "gateway" in words[2] else GOOD | changed
        return "".join(f"{name}={value}\n" for name, value in seen.items())

    return {finding.name: finding for finding in service(device(root), Programs(run))}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    names = ("edge-mcp.service", "since-254.conf")
    put(tmp_path, {f"{SHIPPED}/{name}": name for name in names})
    put(tmp_path, {f"{ETC}/edge-mcp.service": names[0], f"{ETC}/edge-mcp.service.d/since-254.conf": names[1]})
    return tmp_path


def test_one_that_runs_as_it_was_shipped_is_well(installed: Path) -> None:
    findings = told(installed)
    assert {name: (finding.level, finding.found) for name, finding in findings.items()} == {
        "service": ("ok", "active: 9 tools, state nominal"),
        "unit": ("ok", "as shipped"),
    }


def test_where_systemd_is_not_the_first_process_nothing_is_said(tmp_path: Path) -> None:
    assert not list(service(device(tmp_path), Programs(lambda words: None)))


def test_where_systemd_does_not_answer_that_is_said(installed: Path) -> None:
    told(installed)
    (finding,) = service(device(installed), Programs(lambda words: None))
    assert (finding.level, finding.do) == ("note", "sudo edge-mcp doctor")


def test_one_that_was_never_installed_is_a_note(tmp_path: Path) -> None:
    assert set(told(tmp_path, LoadState="not-found")) == {"service"}


def test_one_that_failed_says_how_and_what_it_said_last(installed: Path) -> None:
    finding = told(installed, "older\ntoken: not there\n", ActiveState="failed", Result="exit-code", ExecMainStatus="2")[
        "service"
    ]
    assert (finding.level, finding.found) == ("problem", "failed: exit-code, status 2; the last warning: token: not there")
    assert "systemctl restart edge-mcp.service" in finding.do


def test_restarts_are_counted(installed: Path) -> None:
    assert "started again 3 times" in told(installed, NRestarts="3")["service"].found
    assert told(installed, NRestarts="3", ActiveState="activating")["service"].level == "problem"
    assert told(installed, ActiveState="activating")["service"].level == "note"


def test_one_that_is_stopped_is_a_problem_unless_its_socket_starts_it(installed: Path) -> None:
    stopped = told(installed, ActiveState="inactive")["service"]
    assert (stopped.level, stopped.do) == ("problem", "systemctl start edge-mcp.service")
    assert told(installed, ActiveState="inactive", TriggeredBy="edge-mcp.socket")["service"].level == "ok"


def test_a_gateway_counts_where_it_is_wanted(installed: Path) -> None:
    off = {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled"}
    assert "gateway service" not in told(installed, gateway=off)
    assert told(installed, gateway=off | {"UnitFileState": "enabled"})["gateway service"].level == "problem"


def test_a_unit_that_was_changed_and_what_was_added_are_named(installed: Path) -> None:
    put(installed, {f"{ETC}/edge-mcp.service.d/camera.conf": "mine"})
    assert told(installed)["unit"].found == "as shipped; with /etc/systemd/system/edge-mcp.service.d/camera.conf"
    put(installed, {f"{ETC}/edge-mcp.service": "changed"})
    finding = told(installed)["unit"]
    assert finding.level == "note" and finding.found.startswith("/etc/systemd/system/edge-mcp.service is not as shipped; with ")
    assert "daemon-reload" in told(installed, NeedDaemonReload="yes")["unit"].do


def test_a_package_has_its_unit_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, {"usr/lib/systemd/system/edge-mcp.service": "one"})
    assert told(tmp_path)["unit"].found == "as shipped"
    put(tmp_path, {f"{ETC}/edge-mcp.service": "other"})
    assert "is not as shipped" in told(tmp_path)["unit"].found
