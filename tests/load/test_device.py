"""The device's load as the server asks for it."""

import logging
from pathlib import Path

import pytest

from edge_mcp.load.device import Change, DeviceLoad
from edge_mcp.load.governor import State
from edge_mcp.load.monitor import Monitor
from tests.load.test_monitor import Clock, copied


@pytest.fixture
def clock() -> Clock:
    return Clock()


def heat(root: Path, degrees: float) -> None:
    (root / "sys/class/thermal/thermal_zone0/temp").write_text(f"{degrees * 1000:.0f}\n")


def test_the_state_follows_the_signals_once_a_second(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    root = copied("pi-5", tmp_path)
    (root / "sys/class/power_supply/ac/online").write_text("1\n")
    device = DeviceLoad(4, Monitor(root, clock), clock)
    heard: list[Change] = []
    device.changed = heard.append
    assert device.budget().lanes == 4
    heat(root, 84)
    clock.now = 0.9
    assert device.budget().lanes == 4
    clock.now = 1.0
    with caplog.at_level(logging.WARNING):
        assert device.budget().lanes == 1
    assert heard == [Change(State.NOMINAL, State.CRITICAL, "84 °C")]
    assert caplog.messages == ["the device is CRITICAL (was NOMINAL): 84 °C"]


def test_it_says_when_it_is_well_again(tmp_path: Path, clock: Clock) -> None:
    root = copied("x86", tmp_path)
    (root / "sys/class/thermal/thermal_zone1/temp").write_text("71000\n")
    device = DeviceLoad(2, Monitor(root, clock), clock)
    assert not device.budget().background
    heard: list[Change] = []
    device.changed = heard.append
    (root / "sys/class/thermal/thermal_zone1/temp").write_text("50000\n")
    for second in range(1, 40):
        clock.now = second
        device.budget()
    assert heard == [Change(State.WARM, State.NOMINAL, "nothing speaks against it any more")]
