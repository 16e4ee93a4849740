"""`device://load`, as a client reads it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_mcp.load.device import DeviceLoad
from edge_mcp.load.monitor import Monitor
from edge_mcp.resources.load import LOAD, LoadResources
from tests.load.test_monitor import BOARDS, Clock
from tests.processes import serving


def told(board: str) -> dict[str, Any]:
    clock = Clock()
    device = DeviceLoad(4, Monitor(BOARDS / board, clock), clock)
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(LoadResources(device, clock).told()))
    return found


def test_a_throttled_pi_says_what_and_why() -> None:
    found = told("pi-4")
    assert found["state"] == "HOT"
    assert {reason["signal"] for reason in found["why"]} == {"temperature", "throttling", "under_voltage"}
    assert found["signals"]["throttling"]["now"] == ["under_voltage", "throttled"]


@pytest.mark.parametrize("board", [path.name for path in BOARDS.iterdir() if path.is_dir()])
def test_every_board_can_be_told(board: str) -> None:
    assert set(told(board)) == {"state", "since_s", "why", "budget", "signals", "absent"}


async def test_it_is_read_over_mcp_and_starts_no_engine(tmp_path: Path) -> None:
    async with serving("--stdio", XDG_CACHE_HOME=str(tmp_path)) as served:
        listed = (await served.ask("resources/list"))["result"]
        assert LOAD in [resource["uri"] for resource in listed["resources"]]
        (contents,) = (await served.ask("resources/read", uri=LOAD))["result"]["contents"]
        load = json.loads(contents["text"])
        assert load["signals"]["memory"]["total_mb"] > 0
        assert served.engine_pid() is None
