"""Arithmetic on boxes: float arrays of shape (n, 4) as x_min, y_min, x_max, y_max."""

from typing import Any

import numpy as np

from edge_mcp.engine.host.modalities.placement import Placement
from edge_mcp.engine.host.runtimes.base import Array


def sigmoid(logits: Array) -> Array:
    """Elementwise, in float32, without overflow."""
    probabilities: Array = 1 / (1 + np.exp(-np.clip(logits.astype(np.float32), -80, 80)))
    return probabilities


def iou(box: Array, others: Array) -> Array:
    """Intersection over union of one box (4,) with each of `others` (n, 4): shape (n,); 0 where both are empty."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    union = _area(box[np.newaxis]) + _area(others) - shared
    ratio: Array = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def keep_best(boxes: Array, scores: Array, max_iou: float, limit: int) -> list[int]:
    """Non-maximum suppression: indices of at most `limit` boxes, best first, none overlapping a better one by more."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[iou(boxes[best], boxes[order]) <= max_iou]
    return kept


def box_in_original(placement: Placement, box: Array) -> dict[str, float]:
    """A box (4,) in input pixels as the result has it: pixels of the original, clipped, to one decimal."""
    corners = placement.to_original(box.reshape(2, 2))
    names = ("x_min", "y_min", "x_max", "y_max")
    return {name: round(float(value), 1) for name, value in zip(names, corners.reshape(-1), strict=True)}


def image_size(placement: Placement) -> dict[str, Any]:
    """The original picture's size as the result has it."""
    return {"width": placement.size[0], "height": placement.size[1]}


def _area(boxes: Array) -> Array:
    area: Array = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return area
