"""The event loop's lag, on a loop whose time the test makes."""

import asyncio

import pytest

from edge_mcp.load.lag import FRESH_S, TICK_S, LagMeter


class Time:
    """The running loop's time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)

    async def passes(self, seconds: float) -> None:
        """What is due by then is done, in one turn of the loop."""
        self.now += seconds
        for _ in range(3):
            await asyncio.sleep(0)


async def test_a_loop_that_was_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    time, meter = Time(monkeypatch), LagMeter()
    meter.touch()
    await time.passes(TICK_S + 0.1)
    assert meter.lag_s() == pytest.approx(0.1)
    meter.touch()
    await time.passes(TICK_S)
    assert meter.lag_s() == pytest.approx(0.1)  # the most of the last seconds
    await time.passes(FRESH_S)
    assert meter.lag_s() != pytest.approx(0.1)
    meter.close()


async def test_without_work_nothing_is_measured_and_no_timer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    time, meter = Time(monkeypatch), LagMeter()
    assert meter.lag_s() is None
    meter.touch()
    await time.passes(TICK_S)
    assert meter.lag_s() == pytest.approx(0.0)
    assert meter._timer is None
    await time.passes(FRESH_S + 1)
    assert meter.lag_s() is None


def test_outside_of_a_loop_nothing_is_known() -> None:
    assert LagMeter().lag_s() is None
