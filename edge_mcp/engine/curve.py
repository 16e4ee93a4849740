"""What a batch costs on this device: how long it takes by its size, and what that makes in items a second."""

import math
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

MIN_RUNS = 3
_WARM_UP = 2

Run = Callable[[int], Awaitable[float]]
"""Runs one batch of so many items; answers what the runtime took of the time, in seconds."""


class Point(msgspec.Struct, frozen=True):
    """Batches of `batch` items, `runs` of them one after the other: the time that one takes with all that belongs to it, the
    runtime's part of that (the median too), and the items in a second."""

    batch: int
    runs: int
    p50_ms: float
    p95_ms: float
    model_ms: float
    items_per_s: float


async def measure(
    run: Run, sizes: Sequence[int], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[Point]:
    """A point for each batch size, measured for `seconds` and at least `MIN_RUNS` runs. Raises: what `run` raises."""
    return [await _point(run, size, seconds, clock) for size in sizes]


async def _point(run: Run, size: int, seconds: float, clock: Callable[[], float]) -> Point:
    for _ in range(_WARM_UP):
        await run(size)
    taken: list[float] = []
    model: list[float] = []
    began = clock()
    while len(taken) < MIN_RUNS or clock() - began < seconds:
        before = clock()
        model.append(await run(size))
        taken.append(clock() - before)
    return Point(
        size,
        len(taken),
        round(quantile(taken, 0.5) * 1000, 3),
        round(quantile(taken, 0.95) * 1000, 3),
        round(quantile(model, 0.5) * 1000, 3),
        round(size * len(taken) / max(sum(taken), 1e-9), 2),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` of all do not exceed (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
