"""The device's load as the server asks for it, and as it is followed when nobody asks."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mcp.load.device import HELD_S, WORSE_S, Change, DeviceLoad
from edge_mcp.load.governor import State
from edge_mcp.load.monitor import LEAST_S, Monitor
from edge_mcp.load.trigger import Trigger
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
    assert caplog.messages == [
        "the device is CRITICAL (was NOMINAL): 84 °C "
        "[signals=temperature lanes=1 slack=0.5 keepalive=8 deflate='off' kept=0 background=no]"
    ]


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


def test_keepalive_is_stretched_by_the_state_and_twice_where_power_is_short(tmp_path: Path, clock: Clock) -> None:
    root = copied("pi-5", tmp_path)
    online = root / "sys/class/power_supply/ac/online"
    device = DeviceLoad(4, Monitor(root, clock), clock)
    assert (device.stretch(), device.governor.state) == (2 * 2, State.WARM)  # on battery
    online.write_text("1\n")
    found = []
    for clock.now in range(1, 41):
        found.append(device.stretch())
    assert (found[0], found[-1]) == (2, 1)
    heat(root, 84)
    online.write_text("0\n")
    clock.now = 50
    assert device.stretch() == 8 * 2


def test_undervoltage_is_short_of_power(tmp_path: Path, clock: Clock) -> None:
    root = copied("pi-4", tmp_path)
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text("1\n")
    device = DeviceLoad(4, Monitor(root, clock), clock)
    assert (device.stretch(), device.governor.state) == (4 * 2, State.HOT)


class Loop:
    """A device on the running loop, whose time the test makes; `looks` counts how often memory was looked at."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trigger: "Told | None" = None) -> None:
        self.clock = Clock()
        self.root = copied("x86", tmp_path)
        self.looks = 0
        self.heard: list[Change] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", self.clock)
        self.device = DeviceLoad(2, Monitor(self.root, self.clock), self.clock, lambda told: trigger and trigger.on(told))
        self.device.pressed = self._pressed
        self.device.changed = self.heard.append

    def _pressed(self) -> None:
        self.looks += 1

    def heat(self, degrees: int) -> None:
        for zone in (0, 1):
            (self.root / f"sys/class/thermal/thermal_zone{zone}/temp").write_text(f"{degrees * 1000}\n")

    async def passes(self, seconds: float) -> None:
        """A tenth of a second after the other."""
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    @property
    def due_s(self) -> float | None:
        """In which time it looks next; None: no timer runs."""
        timer = self.device._timer
        return None if timer is None else timer.when() - self.clock.now


class Told(Trigger):
    """A kernel that tells when the test wants it to."""

    def __init__(self) -> None:
        self.told: Callable[[], None] = lambda: None
        self.closed = False

    def on(self, told: Callable[[], None]) -> "Told":
        self.told = told
        return self

    def close(self) -> None:
        self.closed = True


async def test_nobody_listens_and_nothing_is_loaded_no_timer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(tmp_path, monkeypatch)
    loop.device.sample()
    assert loop.due_s is None
    loop.device.listened(True)
    loop.device.listened(False)
    loop.device.held(True)
    loop.device.held(False)
    assert loop.due_s is None


async def test_who_listens_hears_without_anybody_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(tmp_path, monkeypatch)
    loop.device.listened(True)
    assert loop.due_s == LEAST_S
    await loop.passes(3)
    assert loop.heard == []
    loop.heat(84)
    await loop.passes(1.2)
    assert [change.after for change in loop.heard] == [State.CRITICAL]
    loop.device.listened(False)
    assert loop.due_s == pytest.approx(WORSE_S)
    loop.device.close()
    assert loop.due_s is None


async def test_a_bad_state_ends_without_calls_and_the_timer_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(tmp_path, monkeypatch)
    loop.heat(84)
    loop.device.sample()
    assert loop.due_s == WORSE_S
    loop.heat(50)
    await loop.passes(50)
    assert [change.after for change in loop.heard] == [State.CRITICAL, State.NOMINAL]
    assert loop.due_s is None


async def test_memory_is_looked_at_when_the_kernel_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = Told()
    loop = Loop(tmp_path, monkeypatch, trigger)
    loop.device.held(True)
    assert loop.due_s is None
    (loop.root / "proc/pressure/memory").write_text(
        "some avg10=25.00 avg60=2.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    trigger.told()
    assert (loop.looks, [change.after for change in loop.heard]) == (1, [State.HOT])
    loop.device.held(False)
    assert trigger.closed
    loop.device.close()


async def test_where_the_kernel_does_not_tell_memory_is_looked_at_while_models_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(tmp_path, monkeypatch)
    loop.device.held(True)
    loop.device.held(True)
    assert loop.due_s == HELD_S
    await loop.passes(2 * HELD_S + 1)
    assert loop.looks == 2
    loop.device.close()
    assert loop.due_s is None
