"""The settings of memory: their ranges, and what they are when nobody sets them."""

from pathlib import Path
from typing import Any

import pytest

from edge_mcp.config import Config, load
from edge_mcp.engine.memory import DeviceMemory
from edge_mcp.engine.room import Limits
from edge_mcp.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"keep_loaded_s": 0}, r"keep_loaded_s is 0. Write a number from 1 to 604800"),
        ({"keep_loaded_s": 604_801}, "keep_loaded_s is 604801"),
        ({"keep_loaded_s": "long"}, "Write a whole number"),
        ({"memory_mb": -1}, "memory_mb is -1. Write a number from 0 to 1048576"),
        ({"preload": "face-detector"}, "Write a list of strings"),
        ({"keep_loaded": 5}, "Did you mean 'keep_loaded_s'"),
    ],
)
def test_what_is_wrong_is_refused_with_what_would_be_right(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(flags=wrong, environment={})


def test_the_environment_sets_them_too() -> None:
    values = {"KEEP_LOADED_S": "5", "MEMORY_MB": "200", "PRELOAD": "a:b"}
    config = load(environment={f"EDGE_MCP_{name}": value for name, value in values.items()})
    assert (config.keep_loaded_s, config.memory_mb, config.preload) == (5, 200, ("a", "b"))


@pytest.mark.parametrize(
    ("total_mb", "setting", "budget_mb", "reserve_mb"),
    [(400, 0, 200, 24), (4000, 0, 2000, 200), (16000, 0, 8000, 256), (400, 300, 300, 24)],
)
def test_the_budget_follows_from_the_device(
    total_mb: int, setting: int, budget_mb: float, reserve_mb: float, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: {total_mb * 1024} kB\n")
    limits = Limits.of(DeviceMemory(tmp_path, tmp_path), setting)
    assert (limits.budget_mb, limits.reserve_mb) == (budget_mb, reserve_mb)


def test_where_the_device_says_nothing_nothing_is_limited(tmp_path: Path) -> None:
    assert Limits.of(DeviceMemory(tmp_path, tmp_path), Config().memory_mb).budget_mb == float("inf")
