"""The order in which people read what stands in a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

Region = dict[str, Any]

_SHARED = 0.5  # of the lower one's height: what stands beside each other


def in_reading_order(regions: Sequence[Region]) -> list[list[Region]]:
    """Rows from top to bottom, each from left to right; `box` of each region has `x_min`, `y_min`, `x_max`, `y_max`.

    A region is in the row of the last one above it where they share half of the lower one's height. Columns of a page are
    not told apart.
    """
    rows: list[list[Region]] = []
    for region in sorted(regions, key=lambda one: (one["box"]["y_min"] + one["box"]["y_max"], one["box"]["x_min"])):
        if rows and _beside(rows[-1][-1]["box"], region["box"]):
            rows[-1].append(region)
        else:
            rows.append([region])
    return [sorted(row, key=lambda one: float(one["box"]["x_min"])) for row in rows]


def _beside(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    shared = min(one["y_max"], other["y_max"]) - max(one["y_min"], other["y_min"])
    return shared > _SHARED * min(one["y_max"] - one["y_min"], other["y_max"] - other["y_min"])
