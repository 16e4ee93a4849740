"""The event loop's lag, on a loop whose time the test makes."""

import asyncio
import time

from edge_mcp.load.lag import TICK_S, LagMeter


async def test_a_loop_that_was_held_up_is_late() -> None:
    meter = LagMeter()
    meter.touch()
    held = time.monotonic() + TICK_S + 0.1
    while time.monotonic() < held:
        pass
    await asyncio.sleep(0.01)
    lag = meter.lag_s()
    assert lag is not None
    assert lag >= 0.1
    meter.close()


async def test_without_work_nothing_is_measured_and_no_timer_runs() -> None:
    meter = LagMeter()
    assert meter.lag_s() is None
    meter.touch()
    await asyncio.sleep(TICK_S * 1.5)
    assert meter.lag_s() is not None
    assert meter._timer is None


def test_outside_of_a_loop_nothing_is_known() -> None:
    assert LagMeter().lag_s() is None
