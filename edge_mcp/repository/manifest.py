"""`model.toml`: what a model folder says about itself, as checked, frozen structs (DESIGN: a model becomes a tool)."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_mcp.errors import ManifestError

MANIFEST_NAME = "model.toml"
SUFFIXES = (".onnx", ".tflite")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ModelSection(_Section, frozen=True):
    """`[model]`: which file this is, and where it comes from."""

    name: str
    version: str
    file: str
    sha256: str = ""
    license: str = ""
    source: str = ""


class ToolSection(_Section, frozen=True):
    """`[tool]`: what a language model sees."""

    name: str
    title: str = ""
    description: str = ""


class ImageInput(_Section, frozen=True, tag_field="kind", tag="image"):
    """A picture, resized to `size` (width, height in pixels) and scaled to `(x - scale[0]) / scale[1]`, float32."""

    size: tuple[int, int]
    fit: Literal["letterbox", "crop", "stretch"] = "stretch"
    crop_fraction: float = 1.0
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    channels: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    scale: tuple[float, float] = (0.0, 1.0)


class TextInput(_Section, frozen=True, tag_field="kind", tag="text"):
    """A text, counted into byte n-grams: `vocabulary` is a file of length-prefixed n-grams, in column order."""

    vocabulary: str
    max_bytes: int = 65536


class BytesInput(_Section, frozen=True, tag_field="kind", tag="bytes"):
    """Raw bytes: the first `begin` and last `end` of them, stripped of white space within `block`, padded with `padding`."""

    begin: int
    end: int
    block: int
    padding: int
    min_bytes: int = 0


class TensorInput(_Section, frozen=True, tag_field="kind", tag="tensor"):
    """One argument for each input of the model, under the input's own name."""


class SsdOutput(_Section, frozen=True, tag_field="decoder", tag="ssd"):
    """Box regressions and class scores over SSD anchors (Liu et al. 2016); class 0 is the background.

    `boxes` and `scores` name the output tensors; `strides` are in input pixels; anchors as in the TensorFlow
    Object Detection API's multiple-grid generator with `reduce_lowest` for the first layer.
    """

    boxes: str
    scores: str
    labels: str
    strides: tuple[int, ...]
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)
    reduce_lowest: bool = True
    variances: tuple[float, float] = (10.0, 5.0)
    threshold: float = 0.4
    iou: float = 0.5
    max_results: int = 20


class BlazefaceOutput(_Section, frozen=True, tag_field="decoder", tag="blazeface"):
    """MediaPipe's face boxes and six key points over fixed anchors (Bazarevsky et al. 2019)."""

    boxes: str
    scores: str
    strides: tuple[int, ...]
    threshold: float = 0.7
    iou: float = 0.3
    max_results: int = 20


class SoftmaxOutput(_Section, frozen=True, tag_field="decoder", tag="softmax"):
    """One score per label. `activation` is what still has to be applied to the output tensor.

    A best label whose score is below its own threshold (`thresholds`, else `threshold`) is not trusted: the answer's
    `label` is then `fallback`. `replace` renames labels in that answer.
    """

    labels: str
    activation: Literal["softmax", "none"] = "softmax"
    threshold: float = 0.0
    max_results: int = 5
    thresholds: dict[str, float] = {}
    fallback: str = "unknown"
    replace: dict[str, str] = {}


class RawOutput(_Section, frozen=True, tag_field="decoder", tag="raw"):
    """The output tensors as they are."""


class Scheduling(_Section, frozen=True):
    """`[scheduling]`: `deadline_ms` is how long a run may take before it counts as hung (a grace is added)."""

    deadline_ms: int = 10_000


class Resources(_Section, frozen=True):
    """`[resources]`: what a run may use."""

    threads: int = 1


class Manifest(_Section, frozen=True):
    """A whole `model.toml`."""

    model: ModelSection
    tool: ToolSection
    input: ImageInput | TextInput | BytesInput | TensorInput = TensorInput()
    output: SsdOutput | BlazefaceOutput | SoftmaxOutput | RawOutput = RawOutput()
    scheduling: Scheduling = Scheduling()
    resources: Resources = Resources()

    @property
    def has_boxes(self) -> bool:
        """Whether the result is boxes in a picture (which can then be drawn)."""
        return isinstance(self.output, SsdOutput | BlazefaceOutput)


def parse(text: str, origin: str = MANIFEST_NAME) -> Manifest:
    """Parse the text of a `model.toml`; `origin` names it in errors. Raises: ManifestError."""
    try:
        manifest = msgspec.convert(tomllib.loads(text), Manifest)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{origin}: not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ManifestError(f"{origin}: {error}", _nearest(str(error))) from error
    _check(manifest, origin)
    return manifest


def read(folder: Path) -> Manifest:
    """Read the manifest of a model folder. Raises: ManifestError."""
    path = folder / MANIFEST_NAME
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    manifest = parse(text, str(path))
    if manifest.model.name != folder.name:
        raise ManifestError(
            f"{path}: model.name is {manifest.model.name!r}, but its folder is {folder.name!r}", "Both must be the same"
        )
    return manifest


def _check(manifest: Manifest, origin: str) -> None:
    """What types alone do not say."""
    model, tool = manifest.model, manifest.tool
    problems = [
        (not _NAME.fullmatch(model.name), f"model.name {model.name!r}", "Use lower-case letters, digits and single hyphens"),
        (
            Path(model.file).name != model.file or Path(model.file).suffix not in SUFFIXES,
            f"model.file {model.file!r}",
            f"Name a file in this folder that ends in {' or '.join(SUFFIXES)}",
        ),
        (bool(model.sha256) and not _SHA256.fullmatch(model.sha256), "model.sha256", "Write 64 lower-case hex digits"),
        (not _TOOL_NAME.fullmatch(tool.name), f"tool.name {tool.name!r}", "Use 1 to 64 letters, digits, '_' or '-'"),
        (manifest.scheduling.deadline_ms < 1, "scheduling.deadline_ms", "Write a positive number of milliseconds"),
        (not 1 <= manifest.resources.threads <= 64, "resources.threads", "Write a number from 1 to 64"),
        (
            manifest.has_boxes and not isinstance(manifest.input, ImageInput),
            "output.decoder",
            'Boxes need input.kind = "image"',
        ),
        (
            isinstance(manifest.input, TensorInput) and not isinstance(manifest.output, RawOutput),
            "output.decoder",
            'A tensor input goes with the decoder "raw"',
        ),
        (
            isinstance(manifest.output, RawOutput) and not isinstance(manifest.input, TensorInput),
            "output.decoder",
            'The decoder "raw" goes with input.kind = "tensor"',
        ),
        (
            isinstance(manifest.input, ImageInput) and not all(0 < side <= 8192 for side in manifest.input.size),
            "input.size",
            "Write [width, height] in pixels, each from 1 to 8192",
        ),
        (
            isinstance(manifest.input, ImageInput) and not 0 < manifest.input.crop_fraction <= 1,
            "input.crop_fraction",
            "Write a number above 0 and up to 1",
        ),
        (isinstance(manifest.input, ImageInput) and manifest.input.scale[1] == 0, "input.scale", "The divisor must not be 0"),
    ]
    for wrong, what, hint in problems:
        if wrong:
            raise ManifestError(f"{origin}: {what} is not possible", hint)


def _nearest(problem: str) -> str:
    """For msgspec's "Object contains unknown field `x` - at `$.y`": the key that was probably meant."""
    unknown = re.search(r"unknown field `([^`]+)`", problem)
    if not unknown:
        return ""
    known = {name for section in _all_sections(_Section) for name in section.__struct_fields__}
    near = difflib.get_close_matches(unknown[1], sorted(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _all_sections(base: type[_Section]) -> list[Any]:
    return [section for child in base.__subclasses__() for section in (child, *_all_sections(child))]
