"""`[input]` of a `model.toml`: what a tool takes, and how it becomes the model's tensors."""

from typing import Literal

from edge_mcp.repository.sections import Section


class ImageInput(Section, frozen=True, tag_field="kind", tag="image"):
    """A picture, resized to `size` (width, height in pixels) and scaled to `(x - scale[0]) / scale[1]`, float32.

    With `fit = "proportional"` a side of 0 follows the picture's proportions; where both are 0, the picture keeps its own size
    as far as its shorter side has at least `min_side` and its longer one at most `max_side` pixels, which counts more. A side
    that is not fixed is rounded to a `multiple`.
    """

    size: tuple[int, int]
    fit: Literal["letterbox", "crop", "stretch", "proportional"] = "stretch"
    crop_fraction: float = 1.0
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    channels: Literal["RGB", "BGR", "RGBA", "L"] = "RGB"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    scale: tuple[float, float] = (0.0, 1.0)
    min_side: int = 1
    max_side: int = 1024
    multiple: int = 1


class TextInput(Section, frozen=True, tag_field="kind", tag="text"):
    """A text, counted into byte n-grams: `vocabulary` is a file of length-prefixed n-grams, in column order."""

    vocabulary: str
    max_bytes: int = 65536


class BytesInput(Section, frozen=True, tag_field="kind", tag="bytes"):
    """Raw bytes: the first `begin` and last `end` of them, stripped of white space within `block`, padded with `padding`."""

    begin: int
    end: int
    block: int
    padding: int
    min_bytes: int = 0


class TensorInput(Section, frozen=True, tag_field="kind", tag="tensor"):
    """One argument for each input of the model, under the input's own name."""


Input = ImageInput | TextInput | BytesInput | TensorInput
