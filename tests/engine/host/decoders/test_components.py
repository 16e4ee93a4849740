"""Connected parts of a mask."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from edge_mcp.engine.host.decoders.components import components
from edge_mcp.engine.host.runtimes.base import Array

SIDE = 960
Part = tuple[int, int, int, int, int]


def flooded(mask: Array) -> list[Part]:
    """The same by another method: flooding from pixel to pixel. Corners and the number of pixels of each part."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts = []
    while left:
        waiting, part = [left.pop()], []
        while waiting:
            y, x = waiting.pop()
            part.append((y, x))
            near = {(y + down, x + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= near
            waiting += near
        rows, columns = zip(*part, strict=True)
        parts.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1, len(part)))
    return sorted(parts)


def found(mask: Array, values: Array) -> list[Part]:
    parts = components(mask, values)
    return sorted((int(a), int(b), int(c), int(d), int(n)) for (a, b, c, d), n in zip(parts.boxes, parts.pixels, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (17, 23), (40, 40)])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.4, 0.5, 0.7, 0.95, 1.0])
def test_the_parts_are_those_of_a_flood(shape: tuple[int, int], density: float) -> None:
    random = np.random.default_rng(int(density * 100))
    for _ in range(5):
        mask, values = random.random(shape) < density, random.random(shape).astype(np.float32)
        assert found(mask, values) == flooded(mask)
        assert components(mask, values).sums.sum() == pytest.approx(values[mask].sum(dtype=np.float64))


def test_the_sum_of_each_part_is_of_its_own_pixels() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], np.bool_)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    parts = components(mask, values)
    assert sorted(zip(parts.pixels.tolist(), parts.sums.tolist(), strict=True)) == [(2, 1.0), (2, 18.0)]


def snake() -> Array:
    """One part that is as long as can be: down, up, down …"""
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[:, ::2] = True
    mask[0, 1::4] = mask[-1, 3::4] = True
    return mask


def spiral() -> Array:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    y, x, down, across, length = SIDE // 2, SIDE // 2, 0, 1, 2
    while min(y, x) >= 0 and max(y, x) < SIDE and length < SIDE:
        for _ in range(2):
            ends = sorted((y, y + down * length)), sorted((x, x + across * length))
            mask[max(0, ends[0][0]) : ends[0][1] + 1, max(0, ends[1][0]) : ends[1][1] + 1] = True
            y, x = y + down * length, x + across * length
            down, across = across, -down
        length += 2
    return mask


@pytest.mark.parametrize(
    ("mask", "count"),
    [
        (lambda: (np.indices((SIDE, SIDE)) % 2 == 0).all(0), 480 * 480),
        (lambda: np.indices((SIDE, SIDE)).sum(0) % 2 == 0, 1),
        (lambda: np.ones((SIDE, SIDE), np.bool_), 1),
        (snake, 1),
        (spiral, 1),
        (lambda: np.random.default_rng(0).random((SIDE, SIDE)) < 0.4, None),
    ],
    ids=["dots", "checkers", "full", "snake", "spiral", "noise"],
)
def test_whatever_the_mask_is_the_time_is_bounded(mask: Callable[[], Array], count: int | None) -> None:
    made = mask()
    began = time.process_time()
    parts = components(made, np.ones((SIDE, SIDE), np.float32))
    assert time.process_time() - began < 1  # 6 to 90 ms where this was written
    assert len(parts.boxes) == count if count else len(parts.boxes) > 10_000
    assert parts.pixels.sum() == parts.sums.sum() == made.sum()
