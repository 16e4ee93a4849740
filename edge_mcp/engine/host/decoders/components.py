"""Connected parts of a mask: in numpy alone, row by row in runs, so that the time depends on the runs and not on the parts."""

from typing import NamedTuple

import numpy as np

from edge_mcp.engine.host.runtimes.base import Array


class Components(NamedTuple):
    """The parts of a mask, k of them: corners int64 (k, 4) as x_min, y_min, x_max, y_max (the last two outside), the number
    of pixels int64 (k), and the sum of their values float64 (k)."""

    boxes: Array
    pixels: Array
    sums: Array


def components(mask: Array, values: Array) -> Components:
    """The parts of a bool mask (height, width) that touch, at corners too; `values` has the same shape."""
    rows, begins, ends = _runs(mask)
    if not len(rows):
        return Components(np.zeros((0, 4), np.int64), np.zeros(0, np.int64), np.zeros(0))
    labels = _labels(len(rows), *_touching(rows, begins, ends, mask.shape[1]))
    order = np.argsort(labels, kind="stable")
    firsts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    rows, begins, ends = rows[order], begins[order], ends[order]
    totals = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    line = rows * mask.shape[1]
    boxes = np.stack(
        [
            np.minimum.reduceat(begins, firsts),
            np.minimum.reduceat(rows, firsts),
            np.maximum.reduceat(ends, firsts),
            np.maximum.reduceat(rows, firsts) + 1,
        ],
        axis=1,
    )
    sums = np.add.reduceat(totals[line + ends] - totals[line + begins], firsts)
    return Components(boxes, np.add.reduceat(ends - begins, firsts), sums)


def _runs(mask: Array) -> tuple[Array, Array, Array]:
    """The runs of neighbouring pixels in each row, in reading order: row, first column, and the column after the last."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    changes = np.flatnonzero(np.diff(padded.reshape(-1)))
    rows, columns = np.divmod(changes, width + 2)
    return rows[::2], columns[::2], columns[1::2]


def _touching(rows: Array, begins: Array, ends: Array, width: int) -> tuple[Array, Array]:
    """Pairs of runs that touch: each run with those of the next row that begin before it has ended, and end after it began."""
    stride = width + 2
    starts, stops = rows * stride + begins, rows * stride + ends
    low = np.searchsorted(stops, starts + stride, "left")
    high = np.searchsorted(starts, stops + stride, "right")
    counts = high - low
    upper = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(low, counts) + within


def _labels(count: int, one: Array, other: Array) -> Array:
    """The least node that each of `count` nodes is connected to, over the edges `one` - `other`.

    Roots are hooked onto smaller roots, and paths halved, until nothing changes (Zhang et al. 2020, "FastSV"): a number of
    rounds that grows with the logarithm of the longest path, so that a spiral costs little more than a disc.
    """
    parents = np.arange(count)
    while True:
        mine, theirs = parents[one], parents[other]
        apart = mine != theirs
        if not apart.any():
            return parents
        # What is joined needs no further look; what is not may still be, once the roots have moved.
        one, other, mine, theirs = one[apart], other[apart], mine[apart], theirs[apart]
        np.minimum.at(parents, np.maximum(mine, theirs), np.minimum(mine, theirs))
        while not np.array_equal(shorter := parents[parents], parents):
            parents = shorter
