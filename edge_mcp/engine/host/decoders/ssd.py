"""Boxes of a single-shot detector (Liu et al. 2016, "SSD: Single Shot MultiBox Detector")."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.decoders.boxes import box_in_original, image_size, keep_best, sigmoid
from edge_mcp.engine.host.files import float_output, read_labels, shaped
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.placement import ImageSource
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SsdOutput

_CANDIDATES = 200  # per class, before suppression


class SsdDecoder:
    """Class scores [1, anchors, classes] (logits) and box regressions [1, anchors, 4] -> labelled boxes."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the manifest does not fit the model's outputs."""
        config, picture = manifest.output, manifest.input
        if not isinstance(config, SsdOutput) or not isinstance(picture, ImageInput):
            raise ModelError('the decoder "ssd" needs input.kind = "image"')
        self._config = config
        self._size = np.array(picture.size, np.float32)
        self._labels = read_labels(folder, config.labels)
        self._anchors = anchors(config, picture.size)
        float_output(outputs, config.boxes, (1, len(self._anchors), 4))
        float_output(outputs, config.scores, (1, len(self._anchors), len(self._labels)))

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`detections` by falling score; suppression is within a class."""
        source: ImageSource = prepared.source
        boxes = self._boxes(shaped(outputs, self._config.boxes, (len(self._anchors), 4)))
        scores = sigmoid(shaped(outputs, self._config.scores, (len(boxes), len(self._labels))))
        found: list[tuple[float, int, Array]] = []
        for label in range(1, len(self._labels)):
            likely = np.flatnonzero(scores[:, label] >= arguments["threshold"])
            likely = likely[np.argsort(-scores[likely, label], kind="stable")][:_CANDIDATES]
            kept = keep_best(boxes[likely], scores[likely, label], self._config.iou, arguments["max_results"])
            found += [(float(scores[likely[index], label]), label, boxes[likely[index]]) for index in kept]
        found.sort(key=lambda detection: -detection[0])
        detections = [
            {"label": self._labels[label], "score": round(score, 4), "box": box_in_original(source.placement, box)}
            for score, label, box in found[: arguments["max_results"]]
        ]
        picture = _drawn(source, detections)
        return Result({"detections": detections, "image": image_size(source.placement)}, picture)

    def _boxes(self, regressions: Array) -> Array:
        """(n, 4) as y, x, height, width relative to the anchors -> corners in input pixels."""
        centre_variance, size_variance = self._config.variances
        centre = regressions[:, :2].astype(np.float32) / centre_variance * self._anchors[:, 2:] + self._anchors[:, :2]
        half = np.exp(np.minimum(regressions[:, 2:].astype(np.float32) / size_variance, 20)) * self._anchors[:, 2:] / 2
        low, high = (centre - half)[:, ::-1], (centre + half)[:, ::-1]
        corners: Array = np.concatenate([low * self._size, high * self._size], axis=1)
        return corners


def anchors(config: SsdOutput, size: tuple[int, int]) -> Array:
    """Float32 (n, 4): centre y, centre x, height, width, all relative to an input of `size` (width, height) pixels.

    In each cell of each layer one anchor per aspect ratio, and one between this layer's scale and the next's; on the
    first layer three instead when `reduce_lowest` (TensorFlow Object Detection API, multiple_grid_anchor_generator).
    """
    steps = max(1, len(config.strides) - 1)
    scales = [config.min_scale + (config.max_scale - config.min_scale) * step / steps for step in range(len(config.strides))]
    layers = []
    for index, (stride, (scale, following)) in enumerate(zip(config.strides, pairwise([*scales, 1.0]), strict=True)):
        if index == 0 and config.reduce_lowest:
            shapes = [(1.0, 0.1), (2.0, scale), (0.5, scale)]
        else:
            shapes = [*((ratio, scale) for ratio in config.aspect_ratios), (1.0, sqrt(scale * following))]
        sides = np.array([(side / sqrt(ratio), side * sqrt(ratio)) for ratio, side in shapes])
        layers.append(_grid(ceil(size[1] / stride), ceil(size[0] / stride), sides))
    return np.concatenate(layers).astype(np.float32)


def _grid(rows: int, columns: int, sides: Array) -> Array:
    """An anchor of each of `sides` (k, 2) at each cell's centre: (rows * columns * k, 4)."""
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    centres = np.stack([y, x], axis=-1).reshape(-1, 2)
    grid: Array = np.concatenate([np.repeat(centres, len(sides), axis=0), np.tile(sides, (len(centres), 1))], axis=1)
    return grid


def _drawn(source: ImageSource, detections: Sequence[Mapping[str, Any]]) -> bytes | None:
    if source.picture is None:
        return None
    from edge_mcp.engine.host.decoders.annotate import Mark, annotate  # its fonts are needed for drawing alone

    marks = [Mark(entry["box"], entry["label"], entry["score"]) for entry in detections]
    return annotate(source.picture, source.placement.size, marks)
