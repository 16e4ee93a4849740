"""Lines of text (Liao et al. 2020, "Real-time Scene Text Detection with Differentiable Binarization"), as upright boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.decoders.boxes import box_in_original, image_size, sigmoid
from edge_mcp.engine.host.decoders.components import components
from edge_mcp.engine.host.decoders.reading import in_reading_order
from edge_mcp.engine.host.files import float_output
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.placement import ImageSource
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import TextBoxesOutput


class TextBoxesDecoder:
    """A map [1, 1, height, width] of probabilities, or of logits that still need a sigmoid -> boxes in reading order.

    The map may be smaller than the input, by the same factor in both directions or not. Text that stands at an angle gets the
    upright box around it.
    """

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the model's one output is no map."""
        config, picture = manifest.output, manifest.input
        if not isinstance(config, TextBoxesOutput) or not isinstance(picture, ImageInput):
            raise ModelError('the decoder "text_boxes" needs input.kind = "image"')
        self._config = config
        self._sides = (3, 2) if picture.layout == "NCHW" else (2, 1)  # the dimensions of width and height
        if len(outputs) != 1:
            raise ModelError(f'the decoder "text_boxes" needs a model with one output; this one has {len(outputs)}')
        self._name = float_output(outputs, outputs[0].name, (1, 1, -1, -1)).name

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`regions`: of those that score enough the best `max_results`."""
        source: ImageSource = prepared.source
        likely = outputs[self._name][0, 0].astype(np.float32)
        likely = sigmoid(likely) if self._config.activation == "sigmoid" else likely
        boxes, scores = self._found(np.clip(np.nan_to_num(likely), 0, 1))
        kept = np.flatnonzero(scores >= arguments["threshold"])
        kept = kept[np.argsort(-scores[kept], kind="stable")][: arguments["max_results"]]
        placed = boxes[kept] * np.tile(self._input_size(prepared) / np.array(likely.shape[::-1]), 2)
        regions = [
            {"score": round(float(score), 4), "box": box_in_original(source.placement, box)}
            for box, score in zip(placed, scores[kept], strict=True)
        ]
        regions = [region for row in in_reading_order(regions) for region in row]
        return Result({"regions": regions, "image": image_size(source.placement)}, _drawn(source, regions))

    def _input_size(self, prepared: Prepared) -> Array:
        tensor = next(iter(prepared.tensors.values()))
        return np.array([tensor.shape[side] for side in self._sides])

    def _found(self, likely: Array) -> tuple[Array, Array]:
        """Boxes (n, 4) in pixels of the map, grown to the whole lines, and their scores (n)."""
        found = components(_thickened(likely > self._config.pixel_threshold), likely)
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        large = sides.min(axis=1, initial=1 << 30) >= self._config.min_side
        boxes, sides = found.boxes[large].astype(np.float64), sides[large]
        grown = (sides.prod(axis=1) * self._config.unclip / np.maximum(2 * sides.sum(axis=1), 1))[:, np.newaxis]
        return np.concatenate([boxes[:, :2] - grown, boxes[:, 2:] + grown], axis=1), found.sums[large] / found.pixels[large]


def _thickened(mask: Array) -> Array:
    """Each pixel with those to the right, below and between, so that what is parted by a single pixel is one."""
    thick = mask.copy()
    thick[:, 1:] |= mask[:, :-1]
    thick[1:] |= thick[:-1].copy()
    return thick


def _drawn(source: ImageSource, regions: Sequence[Mapping[str, Any]]) -> bytes | None:
    if source.picture is None:
        return None
    from edge_mcp.engine.host.decoders.annotate import Mark, annotate  # as in ssd

    return annotate(source.picture, source.placement.size, [Mark(region["box"], "text", region["score"]) for region in regions])
