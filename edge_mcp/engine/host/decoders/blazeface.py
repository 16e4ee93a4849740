"""Faces with six key points (Bazarevsky et al. 2019, "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs")."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.decoders.boxes import box_in_original, image_size, keep_best, sigmoid
from edge_mcp.engine.host.files import float_output, shaped
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.placement import ImageSource, Placement
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import BlazefaceOutput

KEYPOINTS = ("right_eye", "left_eye", "nose_tip", "mouth_center", "right_ear_tragion", "left_ear_tragion")
_VALUES = 4 + 2 * len(KEYPOINTS)  # of an anchor: centre, size, points


class BlazefaceDecoder:
    """Scores [1, anchors, 1] (logits) and regressions [1, anchors, 16] (input pixels from the anchor) -> faces."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the manifest does not fit the model's outputs."""
        config, picture = manifest.output, manifest.input
        if not isinstance(config, BlazefaceOutput) or not isinstance(picture, ImageInput):
            raise ModelError('the decoder "blazeface" needs input.kind = "image"')
        self._config = config
        self._anchors = anchors(config.strides, picture.size)
        float_output(outputs, config.boxes, (1, len(self._anchors), _VALUES))
        float_output(outputs, config.scores, (1, len(self._anchors), 1))

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`faces` by falling score."""
        source: ImageSource = prepared.source
        scores = sigmoid(shaped(outputs, self._config.scores, (len(self._anchors),)))
        likely = np.flatnonzero(scores >= arguments["threshold"])
        regressions = shaped(outputs, self._config.boxes, (len(scores), _VALUES))[likely].astype(np.float32)
        anchor, scores = self._anchors[likely], scores[likely]
        centre, half = regressions[:, :2] + anchor, regressions[:, 2:4] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        points = regressions[:, 4:].reshape(-1, len(KEYPOINTS), 2) + anchor[:, np.newaxis]
        faces = [
            {
                "score": round(float(scores[index]), 4),
                "box": box_in_original(source.placement, boxes[index]),
                "keypoints": _keypoints(source.placement, points[index]),
            }
            for index in keep_best(boxes, scores, self._config.iou, arguments["max_results"])
        ]
        return Result({"faces": faces, "image": image_size(source.placement)}, _drawn(source, faces))


def anchors(strides: Sequence[int], size: tuple[int, int]) -> Array:
    """Float32 (n, 2): centre x, y in pixels of an input of `size` (width, height).

    Each cell of a layer has two anchors for each of the consecutive equal strides, or one where there is one layer only.
    """
    grids = []
    for stride, layers in groupby(strides):
        count = 1 if len(strides) == 1 else 2 * len(list(layers))
        columns, rows = ceil(size[0] / stride), ceil(size[1] / stride)
        y, x = np.meshgrid(
            (np.arange(rows) + 0.5) * size[1] / rows, (np.arange(columns) + 0.5) * size[0] / columns, indexing="ij"
        )
        grids.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(grids).astype(np.float32)


def _keypoints(placement: Placement, points: Array) -> dict[str, dict[str, float]]:
    original = placement.to_original(points)
    return {name: {"x": round(float(x), 1), "y": round(float(y), 1)} for name, (x, y) in zip(KEYPOINTS, original, strict=True)}


def _drawn(source: ImageSource, faces: Sequence[Mapping[str, Any]]) -> bytes | None:
    if source.picture is None:
        return None
    from edge_mcp.engine.host.decoders.annotate import Mark, annotate  # as in ssd

    marks = [Mark(face["box"], "face", face["score"], list(face["keypoints"].values())) for face in faces]
    return annotate(source.picture, source.placement.size, marks)
