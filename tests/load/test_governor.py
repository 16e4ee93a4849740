"""The governor: worse at once, better after half a minute, never to and fro."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from edge_mcp.load.governor import BETTER_AFTER_S, LASTS_S, LONGEST_S, Budget, Governor, Load, State, budget
from edge_mcp.load.signals import FREQUENCY_CAPPED, SOFT_LIMIT, THROTTLED, UNDER_VOLTAGE, Memory, Power, Pressure, Throttling


def throttled(*now: int) -> Load:
    return Load(throttling=Throttling(frozenset(now), frozenset()))


@pytest.mark.parametrize(
    ("load", "state", "text"),
    [
        (Load(), State.NOMINAL, ""),
        (Load(temperature_c=69.9), State.NOMINAL, ""),
        (Load(temperature_c=70), State.WARM, "70 °C"),
        (Load(temperature_c=77), State.HOT, "77 °C"),
        (Load(temperature_c=83), State.CRITICAL, "83 °C"),
        (Load(temperature_c=69, temperature_slope=0.3), State.WARM, "69 °C, rising to 70"),
        (Load(temperature_c=60, temperature_slope=9.0), State.NOMINAL, ""),  # one jump of a sensor is no fire
        (Load(temperature_c=75, temperature_slope=-0.5), State.WARM, "75 °C"),
        (Load(memory=Memory(512, 70)), State.WARM, "70 of 512 MB available"),
        (Load(memory=Memory(512, 40)), State.HOT, "40 of 512 MB available"),
        (Load(memory=Memory(512, 10)), State.CRITICAL, "10 of 512 MB available"),
        (Load(memory_pressure=Pressure(6, 0)), State.WARM, "tasks waited for memory 6 % of 10 s"),
        (Load(memory_pressure=Pressure(21, 0, 20)), State.CRITICAL, "tasks waited for memory 21 % of 10 s"),
        (Load(lag_s=0.3), State.HOT, "the event loop came 300 ms late"),
        (throttled(SOFT_LIMIT), State.WARM, "the firmware limits the processor's frequency"),
        (throttled(FREQUENCY_CAPPED), State.WARM, "the firmware limits the processor's frequency"),
        (throttled(THROTTLED, SOFT_LIMIT), State.HOT, "the firmware slows the processor down"),
        (throttled(UNDER_VOLTAGE), State.HOT, "the supply voltage is too low"),
        (Load(frequency=0.5, cpu=0.9), State.WARM, "the busy processor runs at 50% of its frequency"),
        (Load(frequency=0.25, cpu=0.1), State.NOMINAL, ""),  # an idle processor saves power
        (Load(cpu=1.0), State.NOMINAL, ""),  # to be busy is its work
        (Load(power=Power(True, 80)), State.WARM, "on battery at 80 %"),
        (Load(power=Power(True, 20)), State.HOT, "on battery at 20 %"),
        (Load(power=Power(False, 5)), State.NOMINAL, ""),
    ],
)
def test_each_signal_has_its_state_and_says_why(load: Load, state: State, text: str) -> None:
    governor = Governor(4)
    assert governor.update(load, 1.0) == (state > State.NOMINAL)
    assert governor.state == state
    assert [reason.text for reason in governor.reasons] == ([text] if text else [])


def states(temperatures: Sequence[float]) -> list[State]:
    """One a second."""
    governor = Governor(4)
    found = []
    for second, temperature in enumerate(temperatures):
        governor.update(Load(temperature_c=temperature), float(second))
        found.append(governor.state)
    return found


def test_worse_counts_at_once_and_better_after_half_a_minute() -> None:
    found = states([60, 78, *[60] * 40])
    assert found[:2] == [State.NOMINAL, State.HOT]
    assert found.index(State.NOMINAL, 2) == 2 + BETTER_AFTER_S
    assert State.WARM not in found


def test_it_gets_better_by_as_much_as_held_for_all_of_the_time() -> None:
    found = states([84, *[71] * 15, *[60] * 60])
    assert found[1 + 15] == State.CRITICAL
    assert found[31] == State.WARM  # 30 s after the last reason for worse: it was warm in them
    assert found[32:62] == [State.WARM] * 30
    assert found[63] == State.NOMINAL


def test_a_value_that_hovers_about_a_limit_does_not_flap() -> None:
    found = states([69.9 if second % 3 else 70.1 for second in range(600)])
    assert sum(before != after for before, after in pairwise(found)) <= 1


def test_a_relapse_begins_the_wait_anew() -> None:
    found = states([78, *[60] * 29, 78, *[60] * 29])
    assert set(found) == {State.HOT}


def test_the_worst_signal_counts_and_its_reasons_are_told() -> None:
    governor = Governor(4)
    governor.update(Load(temperature_c=71, memory=Memory(512, 30), lag_s=0.26), 0)
    assert governor.state == State.HOT
    assert {reason.signal for reason in governor.reasons} == {"memory", "lag"}


def test_the_budget_is_the_table() -> None:
    assert [budget(state, 4) for state in State] == [
        Budget(4, 0.92, 1, "full", 1.0, True),
        Budget(4, 0.85, 2, "text", 1.0, False),
        Budget(2, 0.7, 4, "text, no takeover", 0.25, False),
        Budget(1, 0.5, 8, "off", 0.0, False),
    ]
    assert budget(State.HOT, 1).lanes == 1


def test_a_day_on_a_windowsill() -> None:
    """Heat-up, throttling, recovery and a squeeze of memory: each state when it should be, and few changes."""
    governor = Governor(4)
    changes = []
    for second in range(3600):
        heat = 50 + 36 * max(0.0, 1 - abs(second - 1200) / 900)
        memory = Memory(906, 906 * (0.03 if 2700 <= second < 2760 else 0.5))
        throttling = Throttling(frozenset({THROTTLED} if heat > 82 else ()), frozenset())
        noise = ((second * 7919) % 13 - 6) / 10
        if governor.update(Load(temperature_c=heat + noise, memory=memory, throttling=throttling), second):
            changes.append((second, governor.state))
    assert [state for _, state in changes] == [
        State.WARM,
        State.HOT,
        State.CRITICAL,
        State.HOT,
        State.WARM,
        State.NOMINAL,
        State.CRITICAL,
        State.NOMINAL,
    ]
    assert changes[-2][0] == 2700
    assert 2760 + BETTER_AFTER_S <= changes[-1][0] <= 2760 + BETTER_AFTER_S + 1


def test_one_low_value_in_noise_does_not_end_what_holds_a_state() -> None:
    noisy = [77.5] + [74.5, 73.5] * 40
    assert set(states(noisy)) == {State.HOT}
    assert states([77.5] + [73.5] * 40)[-1] == State.WARM


def test_what_did_not_last_comes_back_later_each_time_and_what_lasts_is_forgotten() -> None:
    governor, now = Governor(4), 0.0

    def seconds_until_better() -> float:
        nonlocal now
        governor.update(Load(temperature_c=84), now)
        began = now = now + 1
        while not governor.update(Load(temperature_c=50), now):
            now += 1
        return now - began

    assert [seconds_until_better() for _ in range(5)] == [BETTER_AFTER_S, 60, 120, LONGEST_S, LONGEST_S]
    now += LASTS_S
    assert seconds_until_better() == BETTER_AFTER_S
