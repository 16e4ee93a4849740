"""`model.toml`: what a model folder says about itself, as checked, frozen structs (DESIGN: a model becomes a tool)."""

import re
import tomllib
from pathlib import Path

import msgspec

from edge_mcp.errors import ManifestError
from edge_mcp.repository.inputs import ImageInput, Input, TensorInput
from edge_mcp.repository.nearest import likely
from edge_mcp.repository.outputs import BlazefaceOutput, Output, RawOutput, SsdOutput
from edge_mcp.repository.sections import Check, ModelSection, Resources, Scheduling, Section, ToolSection

MANIFEST_NAME = "model.toml"
SUFFIXES = (".onnx", ".tflite")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Manifest(Section, frozen=True):
    """A whole `model.toml`."""

    model: ModelSection
    tool: ToolSection
    input: Input = TensorInput()
    output: Output = RawOutput()
    scheduling: Scheduling = Scheduling()
    resources: Resources = Resources()
    check: tuple[Check, ...] = ()

    @property
    def has_boxes(self) -> bool:
        """Whether the result is boxes in a picture (which can then be drawn)."""
        return isinstance(self.output, SsdOutput | BlazefaceOutput)


def parse(text: str, origin: str = MANIFEST_NAME) -> Manifest:
    """Parse the text of a `model.toml`; `origin` names it in errors. Raises: ManifestError."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{origin}: not valid TOML: {error}") from error
    try:
        manifest = msgspec.convert(data, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{origin}: {error}", likely(Manifest, data, str(error))) from error
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
