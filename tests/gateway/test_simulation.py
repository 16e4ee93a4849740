"""What becomes of many calls on several devices, in time that is simulated: the router beside who goes round-robin."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edge_mcp.gateway.choice import HEDGES
from tests.gateway import simulation
from tests.gateway.simulation import Fleet, Outcome, Way, simulated


def both(play: Callable[[Way], Coroutine[Any, Any, Outcome]]) -> tuple[Outcome, Outcome]:
    return simulated(play(Fleet.routed)), simulated(play(Fleet.round_robin))


def test_a_device_that_is_four_times_slower_gets_a_quarter() -> None:
    routed, in_turn = both(lambda way: simulation.slowed(way, calls=1500))
    others = [routed.by[name] for name in "bcde"]
    assert routed.by["a"] == pytest.approx(sum(others) / 4 / 4, rel=0.25)
    assert max(others) < 1.15 * min(others)
    assert routed.lost == routed.late == 0
    assert routed.goodput > 2.5 * in_turn.goodput
    assert routed.quantile_ms(0.99) < in_turn.quantile_ms(0.99) / 5


def test_where_there_is_little_to_do_the_slow_device_is_seldom_asked_but_seen_again() -> None:
    async def play() -> Outcome:
        fleet = Fleet()
        fleet.devices[0].slower = 4.0
        await fleet.run(Fleet.routed, 600, 0, 100.0)
        asked = fleet.devices[0].begun
        fleet.devices[0].slower = 1.0
        outcome = await fleet.run(Fleet.routed, 3000, 0, 100.0)
        outcome.by["before"], outcome.by["a"] = asked, fleet.devices[0].begun - asked
        return outcome

    outcome = simulated(play())
    assert outcome.by["before"] < 600 * 0.1
    assert outcome.by["a"] > 3000 * 0.1


def test_no_call_is_lost_while_devices_are_killed_in_turn() -> None:
    routed = simulated(simulation.killed(Fleet.routed))
    assert routed.lost == routed.late == 0
    assert len(routed.took) == 4000


def test_stragglers_are_overtaken_by_few_calls_more() -> None:
    routed, in_turn = both(simulation.straggling)
    assert routed.quantile_ms(0.99) < in_turn.quantile_ms(0.99) / 2
    assert routed.hedged <= 4000 * HEDGES + 5


def test_a_device_that_says_nothing_any_more_is_left_alone() -> None:
    routed, in_turn = both(simulation.stopped)
    assert routed.lost == 0
    assert routed.quantile_ms(0.99) < in_turn.quantile_ms(0.99) / 5


def test_twice_too_much_work_is_refused_and_all_devices_are_busy() -> None:
    async def play() -> Outcome:
        fleet = Fleet(room=8)
        return await fleet.run(Fleet.routed, 1000, 0, 1000.0, 0.25)

    routed = simulated(play())
    assert routed.goodput > 0.85 * 5 / simulation.NEEDS_S
    assert routed.lost > 200


def test_a_device_that_says_that_it_is_hot_gets_less_before_that_is_seen() -> None:
    async def play() -> list[int]:
        fleet = Fleet()
        await fleet.run(Fleet.routed, 200, 10)
        before = [device.begun for device in fleet.devices]
        fleet.devices[0].load = 3
        await fleet.run(Fleet.routed, 30, 10)
        return [device.begun - was for device, was in zip(fleet.devices, before, strict=True)]

    hot, *others = simulated(play())
    assert hot < min(others)
