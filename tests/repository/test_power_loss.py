"""Killed before any of its changes of the disk, an operation leaves the old state or the new one, and can be repeated."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT

# operation -> what is served before, what is served afterwards
OPERATIONS = {
    "add": (["1.0.0"], ["2.0.0"]),
    "adopt": ([], ["2.0.0"]),
    "change": (["1.0.0"], ["2.0.0"]),
    "use": (["2.0.0"], ["1.0.0"]),
    "remove": (["1.0.0"], []),
    "refuse": (["1.0.0"], ["1.0.0"]),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_point_of_an_operation_leaves_the_old_or_the_new_state(operation: str, tmp_path: Path) -> None:
    old, new = OPERATIONS[operation]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.repository.power_loss", operation, str(tmp_path)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    points = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(points) > 4
    assert [point["done"] for point in points] == [False] * (len(points) - 1) + [True]
    seen = []
    for point in points:
        after, again = point["after"], point["again"]
        assert after["served"] in (old, new), point
        assert all(after["content"]), point
        assert after["intact"], point
        assert after["problems"] in ([], ["it is not wanted"]), point
        assert again["served"] == new, point
        assert again["left"] == [], point
        seen.append(after["served"])
    assert seen == sorted(seen, key=lambda served: served != old)  # once it is the new state, it stays that
    assert seen[-1] == new
