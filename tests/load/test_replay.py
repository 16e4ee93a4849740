"""The governor before a board that reacts to what it allows."""

from pathlib import Path

import pytest

from edge_mcp.load.governor import State
from tests.load.replay import HARD_C, Moment, flaps, replay


def good(moments: list[Moment], begin: int, end: int) -> int:
    return sum(one.in_time for one in moments[begin:end])


@pytest.mark.parametrize(("seed", "deadline_s"), [(1, 0.5), (2, 0.15)])
def test_it_is_early_in_heat_calm_in_noise_and_answers_more_when_memory_is_short(
    seed: int, deadline_s: float, tmp_path: Path
) -> None:
    governed, left = (replay(tmp_path, seed, governed, deadline_s) for governed in (True, False))
    assert flaps(governed) == 0
    assert [one.state for one in governed if one.changed][:2] == [State.WARM, State.HOT]
    assert max(one.celsius for one in governed) < HARD_C
    assert not any(one.throttled & 4 for one in governed)
    assert sum(bool(one.throttled) for one in governed) < 0.1 * sum(bool(one.throttled) for one in left)
    assert good(governed, 600, 700) > 1.2 * good(left, 600, 700)
    assert governed[-1].state == State.NOMINAL
    assert all(one.lanes == 2 for one in governed if one.state == State.HOT)
