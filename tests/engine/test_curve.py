"""How a batch's cost is measured, on a clock of the test's own."""

import pytest

from edge_mcp.engine.curve import MIN_RUNS, Point, measure, quantile


class Clock:
    """Time that passes only in runs: 10 ms and 2 ms for each item, of which the model takes 1 ms each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sizes: list[int] = []

    def __call__(self) -> float:
        return self.now

    async def run(self, size: int) -> float:
        self.sizes.append(size)
        self.now += 0.010 + 0.002 * size
        return 0.001 * size


async def test_each_size_is_measured_for_its_time() -> None:
    clock = Clock()
    one, four = await measure(clock.run, [1, 4], 0.12, clock)
    assert one == Point(1, 10, 12.0, 12.0, 1.0, 83.33)
    assert four == Point(4, 7, 18.0, 18.0, 4.0, 222.22)


async def test_the_first_runs_do_not_count_and_some_always_do() -> None:
    clock = Clock()
    (point,) = await measure(clock.run, [1], 1e-9, clock)
    assert point.runs == MIN_RUNS
    assert len(clock.sizes) > MIN_RUNS


async def test_a_run_that_fails_ends_it() -> None:
    async def run(size: int) -> float:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await measure(run, [1], 1)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (0.25, 1), (1, 4)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], share) == value
