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


class AudioInput(Section, frozen=True, tag_field="kind", tag="audio"):
    """Sound, mixed down to one channel of `rate` samples a second, each from -1 to 1, and given to the model step by step.

    With `features = "samples"` a step takes `window` new samples, behind the last `context` of those before (zeros at first).
    With `"micro"` it takes `window` rows of 40 features, one for each 10 ms, by the front end of TensorFlow Lite Micro. `input`
    names the tensor that they go into; it may be empty where nothing else feeds one. `state` feeds inputs with outputs of the
    step before (input = output; zeros at first), `constants` are inputs that never change. `tail_ms` of silence follow the end
    of a sound: some models answer late. `max_seconds` bounds a call.
    """

    window: int
    rate: int = 16000
    features: Literal["samples", "micro"] = "samples"
    context: int = 0
    input: str = ""
    state: dict[str, str] = {}
    constants: dict[str, float] = {}
    tail_ms: int = 0
    max_seconds: int = 600


class TensorInput(Section, frozen=True, tag_field="kind", tag="tensor"):
    """One argument for each input of the model, under the input's own name."""


Input = ImageInput | TextInput | BytesInput | AudioInput | TensorInput
