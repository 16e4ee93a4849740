"""`device://load`, as a client reads it."""

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_mcp.app import App
from edge_mcp.config import Config
from edge_mcp.load.device import DeviceLoad
from edge_mcp.load.monitor import Monitor
from edge_mcp.repository.live import Repository
from edge_mcp.resources.load import LOAD, LoadResources
from tests.load.test_monitor import BOARDS, Clock, copied
from tests.processes import ROOT, serving
from tests.talk import LEGACY, MODERN, talking


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
    assert set(told(board)) == {"state", "since_s", "why", "budget", "queued", "running", "network", "signals", "absent"}


async def test_it_is_read_over_mcp_and_starts_no_engine(tmp_path: Path) -> None:
    async with serving("--stdio", XDG_CACHE_HOME=str(tmp_path)) as served:
        listed = (await served.ask("resources/list"))["result"]
        assert LOAD in [resource["uri"] for resource in listed["resources"]]
        (contents,) = (await served.ask("resources/read", uri=LOAD))["result"]["contents"]
        load = json.loads(contents["text"])
        assert load["signals"]["memory"]["total_mb"] > 0
        assert served.engine_pid() is None


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_who_listens_hears_of_each_change_of_state(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, clock = copied("x86", tmp_path), Clock()
    app = App(Config(), Repository((ROOT / "models",)), load=DeviceLoad(2, Monitor(root, clock), clock))

    async def state() -> str:
        (contents,) = (await other.ask("resources/read", uri=LOAD))["contents"]
        return str(json.loads(contents["text"])["state"])

    def updates() -> list[str]:
        return [one["params"]["uri"] for one in talk.heard if one.get("method") == "notifications/resources/updated"]

    async with talking(app.server.serve, version) as talk, talking(app.server.serve, version) as other:
        if version == LEGACY:
            await talk.ask("resources/subscribe", uri=LOAD)
        else:
            await talk.begin("subscriptions/listen", notifications={"resourceSubscriptions": [LOAD]})
            await talk.notified("notifications/subscriptions/acknowledged")
        assert await state() == "NOMINAL"
        for zone in (0, 1):
            (root / f"sys/class/thermal/thermal_zone{zone}/temp").write_text("84000\n")
        assert await state() == "NOMINAL"  # measured less than a second ago
        assert updates() == []
        clock.now += 1
        with caplog.at_level(logging.WARNING):
            assert await state() == "CRITICAL"
        await talk.hears(lambda one: one.get("method") == "notifications/resources/updated")
        assert updates() == [LOAD]
        [line] = [line for line in caplog.messages if "CRITICAL" in line]
        assert line.startswith("the device is CRITICAL (was NOMINAL): 84 °C [signals=temperature lanes=1 ")
        clock.now += 1
        assert await state() == "CRITICAL"
        assert updates() == [LOAD]
    await app.close()
