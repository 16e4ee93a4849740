"""What the system says, and what is made of a system that says nothing."""

import os
from pathlib import Path

from edge_mcp.resources.probe import load_average, resident_mb


def test_memory_is_that_of_the_process() -> None:
    assert 5 < (resident_mb(os.getpid()) or 0) < 2000
    assert resident_mb(2**22 + 1) is None


def test_a_status_without_memory_is_none(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tkthread\n")
    assert resident_mb(7, tmp_path) is None


def test_the_load_has_three_averages() -> None:
    assert len(load_average() or ()) == 3
