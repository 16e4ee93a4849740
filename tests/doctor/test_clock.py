"""What the doctor says of a clock."""

import os
from pathlib import Path

from edge_mcp.doctor.clock import Time, clock
from edge_mcp.load.doctor import Finding
from tests.load.test_doctor import NOW, device


def told(root: Path, time: Time) -> Finding:
    (finding,) = clock(device(root), time)
    return finding


def test_a_clock_that_no_server_set_is_noted(tmp_path: Path) -> None:
    assert told(tmp_path, Time(NOW, True)).level == "ok"
    assert told(tmp_path, Time(NOW)).level == "ok"
    assert "timedatectl" in told(tmp_path, Time(NOW, False)).do


def test_a_clock_before_the_installation_is_a_problem(tmp_path: Path) -> None:
    mark = tmp_path / "opt/edge-mcp/current/complete"
    mark.parent.mkdir(parents=True)
    mark.touch()
    os.utime(mark, (NOW + 10, NOW + 10))
    assert told(tmp_path, Time(NOW, True)).level == "problem"
    assert told(tmp_path, Time(NOW + 20, True)).level == "ok"


def test_this_machines_clock_is_past_its_making() -> None:
    here = Time.here()
    assert here.now > 1_760_000_000
    assert here.synchronized in (True, False, None)
