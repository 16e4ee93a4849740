"""`model.toml`: what a model folder says about itself, as checked, frozen structs (DESIGN: a model becomes a tool)."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edge_mcp.errors import ManifestError
from edge_mcp.repository.bounds import MAX_BYTES, odd_number, part_problems, read_bounded, resource_problems, text_problem
from edge_mcp.repository.inputs import ImageInput, Input, TensorInput
from edge_mcp.repository.nearest import likely
from edge_mcp.repository.outputs import Output, RawOutput
from edge_mcp.repository.sections import Check, ModelSection, Resources, Scheduling, Section, ToolSection
from edge_mcp.repository.semver import is_version
from edge_mcp.repository.sound import sound_problems
from edge_mcp.repository.steps import FINDERS, Problem, Step, output_problems, picture_problems, step_problems

MANIFEST_NAME = "model.toml"
SUFFIXES = (".onnx", ".tflite")
DEVICE_STATUS = "device_status"
"""The server's own tool, whose name no model's can have."""
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Manifest(Section, frozen=True):
    """A whole `model.toml`.

    Of a pipeline, `input`, `output` and the file in `model` are those of its first step.
    """

    model: ModelSection
    tool: ToolSection
    input: Input = TensorInput()
    output: Output = RawOutput()
    scheduling: Scheduling = Scheduling()
    resources: Resources = Resources()
    check: tuple[Check, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def has_boxes(self) -> bool:
        """Whether the result is boxes in a picture (which can then be drawn)."""
        return isinstance(self.output, FINDERS)

    @property
    def parts(self) -> tuple["Manifest", ...]:
        """A manifest for each of its models: of a pipeline the steps, else itself."""
        return tuple(_of_step(self, step) for step in self.steps) or (self,)


def parse(text: str, origin: str = MANIFEST_NAME) -> Manifest:
    """Parse the text of a `model.toml`; `origin` names it in errors. Raises: ManifestError."""
    if problem := text_problem(text):
        raise ManifestError(f"{origin}: {problem}", "See what it is that lies there")
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for numbers of thousands of digits
        raise ManifestError(f"{origin}: not valid TOML: {error}") from error
    if odd_number(data):
        raise ManifestError(f"{origin}: a number is infinite, none, or too large", "Write finite numbers, below 2 to the 64th")
    try:
        manifest = msgspec.convert(data, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{origin}: {error}", likely(Manifest, data, str(error))) from error
    if manifest.steps:
        first = manifest.parts[0]
        manifest = replace(manifest, model=first.model, input=first.input, output=first.output)
    _check(manifest, data, origin)
    return manifest


def read(folder: Path, name: str = "", origin: Path | None = None) -> Manifest:
    """Read the manifest of a model folder; `name` is that of the model where the folder has another.

    `origin` is the folder that errors speak of, if it is another. Raises: ManifestError.
    """
    path = (origin or folder) / MANIFEST_NAME
    try:
        text = read_bounded(folder / MANIFEST_NAME, MAX_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    manifest = parse(text, str(path))
    if manifest.model.name != (name or folder.name):
        raise ManifestError(
            f"{path}: model.name is {manifest.model.name!r}, but its folder is {name or folder.name!r}", "Both must be the same"
        )
    return manifest


def _of_step(manifest: Manifest, step: Step) -> Manifest:
    model = replace(manifest.model, file=step.file, sha256=step.sha256, signature=step.signature)
    return replace(manifest, model=model, input=step.input, output=step.output, check=(), steps=())


def _check(manifest: Manifest, data: dict[str, Any], origin: str) -> None:
    """What types alone do not say; `data` is the file as it was written."""
    for wrong, what, hint in _problems(manifest, data):
        if wrong:
            raise ManifestError(f"{origin}: {what} is not possible", hint)


def _problems(manifest: Manifest, data: dict[str, Any]) -> Iterator[Problem]:
    name, tool = manifest.model.name, manifest.tool.name
    yield not _NAME.fullmatch(name), f"model.name {name!r}", "Use lower-case letters, digits and single hyphens"
    version = manifest.model.version
    yield not is_version(version), f"model.version {version!r}", "Write a semantic version, such as 1.0.0 or 1.1.0-beta.2"
    yield not _TOOL_NAME.fullmatch(tool), f"tool.name {tool!r}", "Use 1 to 64 letters, digits, '_' or '-'"
    yield tool == DEVICE_STATUS, f"tool.name {tool!r}", "The server has a tool of this name: give the model's another one"
    yield from resource_problems(manifest.scheduling, manifest.resources)
    yield from step_problems(manifest.steps, data)
    for number, part in enumerate(manifest.parts, 1):
        yield from _part_problems(part, f" of step {number}" if manifest.steps else "", number > 1)


def _part_problems(part: Manifest, place: str, gets_crops: bool) -> Iterator[Problem]:
    """Of one model; one that `gets_crops` of a picture may answer its tensors as they are."""
    model = part.model
    own = "file" if place else "model.file"
    yield (
        Path(model.file).name != model.file or Path(model.file).suffix not in SUFFIXES,
        f"{own} {model.file!r}{place}",
        f"Name a file in this folder that ends in {' or '.join(SUFFIXES)}",
    )
    wrong_digest = bool(model.sha256) and not _SHA256.fullmatch(model.sha256)
    yield wrong_digest, f"sha256{place}" if place else "model.sha256", "Write 64 lower-case hex digits"
    is_picture, is_tensor = isinstance(part.input, ImageInput), isinstance(part.input, TensorInput)
    yield part.has_boxes and not is_picture, f"output.decoder{place}", 'Boxes need input.kind = "image"'
    is_raw = isinstance(part.output, RawOutput)
    yield is_tensor and not is_raw, f"output.decoder{place}", 'A tensor input goes with the decoder "raw"'
    yield (
        is_raw and not is_tensor and not gets_crops,
        f"output.decoder{place}",
        'The decoder "raw" goes with input.kind = "tensor"',
    )
    if isinstance(part.input, ImageInput):
        yield from picture_problems(place, part.input, part.output)
    yield from part_problems(place, part.input, part.output)
    yield from output_problems(place, part.output)
    yield from sound_problems(place, part.input, part.output)
