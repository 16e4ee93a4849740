"""Where a picture lies in a model's input; what decoders need to lead boxes back to it."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.repository.inputs import ImageInput


@dataclass(frozen=True, slots=True)
class Placement:
    """The part `box` (left, top, right, bottom) of a picture of `size`, resized to `resized` and put at `offset`.

    All in pixels, (width, height) or (x, y): `size` and `box` of the original picture, `resized` and `offset` of the input.
    """

    size: tuple[int, int]
    box: tuple[float, float, float, float]
    resized: tuple[int, int]
    offset: tuple[int, int]

    def to_original(self, points: Array) -> Array:
        """Points (..., 2) as x, y in input pixels -> in pixels of the original, clipped to it; float64."""
        part = np.array([self.box[2] - self.box[0], self.box[3] - self.box[1]])
        scaled = (points.astype(np.float64) - self.offset) * part / np.array(self.resized)
        clipped: Array = np.clip(scaled + self.box[:2], 0, self.size)
        return clipped


@dataclass(frozen=True, slots=True)
class ImageSource:
    """How a picture was fitted, and, when it shall be drawn on, the picture itself (a Pillow image, perhaps smaller)."""

    placement: Placement
    picture: Any = None


Box = tuple[float, float, float, float]


def place(config: ImageInput, size: tuple[int, int], part: Box | None = None) -> Placement:
    """Fit a picture of `size`, or a `part` of it (left, top, right, bottom; not less than a pixel), as the manifest says."""
    whole = part or (0.0, 0.0, float(size[0]), float(size[1]))
    width, height = whole[2] - whole[0], whole[3] - whole[1]
    target_width, target_height = config.size
    if config.fit == "stretch":
        return Placement(size, whole, config.size, (0, 0))
    if config.fit == "proportional":
        return Placement(size, whole, _proportional(config, width, height), (0, 0))
    if config.fit == "letterbox":
        scale = min(target_width / width, target_height / height)
        resized = (max(1, round(width * scale)), max(1, round(height * scale)))
        return Placement(size, whole, resized, ((target_width - resized[0]) // 2, (target_height - resized[1]) // 2))
    scale = min(width / target_width, height / target_height) * config.crop_fraction
    part_width, part_height = scale * target_width, scale * target_height
    left, top = whole[0] + (width - part_width) / 2, whole[1] + (height - part_height) / 2
    return Placement(size, (left, top, left + part_width, top + part_height), config.size, (0, 0))


def _proportional(config: ImageInput, width: float, height: float) -> tuple[int, int]:
    """The size of an input that follows the proportions of a picture."""
    fixed_width, fixed_height = config.size
    if fixed_width:
        return fixed_width, _side(config, height * fixed_width / width, config.min_side)
    if fixed_height:
        return _side(config, width * fixed_height / height, config.min_side), fixed_height
    scale = min(max(1.0, config.min_side / min(width, height)), config.max_side / max(width, height))
    return _side(config, width * scale, 1), _side(config, height * scale, 1)


def _side(config: ImageInput, length: float, least: int) -> int:
    """The multiple that is nearest to `length`, at least `least` and at most `max_side`."""
    count = max(round(length / config.multiple), ceil(least / config.multiple))
    return config.multiple * min(max(count, 1), config.max_side // config.multiple)
