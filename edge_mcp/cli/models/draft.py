"""A first `model.toml` for a model file, from what is in the file: what is guessed is marked, and what to check said."""

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_mcp.engine.messages import Described, Signature, TensorSpec
from edge_mcp.engine.naming import argument_names
from edge_mcp.repository import toml
from edge_mcp.repository.metadata import About, clean

LABELS_NAME = "labels.txt"
_CHANNELS = (1, 3, 4)
_DEFAULT_SIDE = 224
_MAX_SIDE = 8192
_MAX_DIMENSIONS = 8
_SEMANTIC = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}(?:[-+][0-9A-Za-z.+-]{1,40})?")
_MAX_TENSORS = 32


class Picture(msgspec.Struct, frozen=True):
    """An input that is a picture: `size` as width and height, each -1 where the file takes any; `layout` as in the manifest."""

    size: tuple[int, int]
    layout: str
    channels: int


class Draft(msgspec.Struct, frozen=True):
    """What will be written. With a `picture` and labels it is a classifier; `activation` is what its output still needs."""

    name: str
    file: str
    described: Described
    about: About
    picture: Picture | None = None
    activation: str = "softmax"
    refused: str = ""

    @property
    def is_classifier(self) -> bool:
        """Whether the tool takes a picture and answers labels; else it takes and answers tensors."""
        return self.picture is not None and bool(self.about.labels) and not self.refused


def guess(name: str, file: str, described: Described, about: About) -> Draft:
    """What the file looks like."""
    signature = described.signature
    picture = find_picture(signature)
    fits = picture is not None and class_count(signature) == len(about.labels) > 1
    return Draft(name, file, described, about, picture if fits and picture and picture.channels == 3 else None)


def find_picture(signature: Signature) -> Picture | None:
    """The one input as a picture, if it looks like one."""
    if len(signature.inputs) != 1:
        return None
    spec = signature.inputs[0]
    if len(spec.shape) != 4 or spec.datatype not in ("FP32", "FP16", "UINT8", "INT8") or spec.shape[0] not in (1, -1):
        return None
    _, *rest = spec.shape
    if rest[2] in _CHANNELS and _are_sides(rest[0], rest[1]):
        return Picture((rest[1], rest[0]), "NHWC", rest[2])
    if rest[0] in _CHANNELS and _are_sides(rest[1], rest[2]):
        return Picture((rest[2], rest[1]), "NCHW", rest[0])
    return None


def class_count(signature: Signature) -> int:
    """How many scores the one output has; 0: it is none of shape [1, N]."""
    if len(signature.outputs) != 1:
        return 0
    shape = signature.outputs[0].shape
    return shape[1] if len(shape) == 2 and shape[0] in (1, -1) and shape[1] > 1 else 0


def write(draft: Draft) -> str:
    """The text of the `model.toml`."""
    parts = [_head(draft), _model(draft), _tool(draft)]
    parts += [_image_input(draft), _softmax_output(draft)] if draft.is_classifier else [_tensors(draft)]
    return "\n\n".join([*parts, _rest(draft)]) + "\n"


def _head(draft: Draft) -> str:
    about = draft.about
    lines = [
        f"Written by edge-mcp models init from {draft.file}. Every key is in README.md, under Your own models.",
        "",
        "The file has",
    ]
    lines += _lines("input", draft.described.signature.inputs, about.inputs)
    lines += _lines("output", draft.described.signature.outputs, about.outputs)
    if about.author:
        lines.append(f"and says that it was made by: {about.author}")
    if about.version and not _SEMANTIC.fullmatch(about.version):
        lines.append(f"and calls its version: {about.version}")
    lines += [f"Note: {remark}" for remark in about.remarks]
    return "\n".join(comment(line) for line in lines)


def comment(text: str) -> str:
    """One line of comment, whatever the text is."""
    return f"# {clean(text)}".rstrip()


def _lines(what: str, specs: Sequence[TensorSpec], notes: Sequence[str]) -> list[str]:
    lines = []
    for index, spec in enumerate(specs[:_MAX_TENSORS]):
        note = f" ({clean(notes[index], 200)})" if index < len(notes) and notes[index] else ""
        lines.append(f"- {what} {clean(spec.name, 100)!r}: {spec.datatype} {_shape(spec)}{_quantization(spec)}{note}")
    if len(specs) > _MAX_TENSORS:
        lines.append(f"- and {len(specs) - _MAX_TENSORS} more of these")
    return lines


def _shape(spec: TensorSpec) -> str:
    if spec.any_rank:
        return "of any shape"
    more = ["…"] if len(spec.shape) > _MAX_DIMENSIONS else []
    return f"[{', '.join([*map(str, spec.shape[:_MAX_DIMENSIONS]), *more])}]"


def _quantization(spec: TensorSpec) -> str:
    if spec.quantization is None or not spec.quantization.scale:
        return ""
    scale, zero = spec.quantization.scale, spec.quantization.zero_point
    if len(scale) > 1:
        return f", quantized with {len(scale)} scales along dimension {spec.quantization.axis}"
    return f", quantized: real = {scale[0]:.8g} * (integer - {zero[0] if zero else 0})"


def _model(draft: Draft) -> str:
    about = draft.about
    version = about.version if _SEMANTIC.fullmatch(about.version) else "1.0.0"
    lines = [
        "[model]",
        f"name = {toml.value(draft.name)}  # the folder's name",
        f"version = {toml.value(version)}",
        f"file = {toml.value(draft.file)}",
        f"sha256 = {toml.value(draft.described.sha256)}",
        f"license = {toml.value(about.license)}{'' if about.license else '  # of the weights: write it here'}",
        f"source = {toml.value(about.source)}{'' if about.source else '  # where the file comes from'}",
    ]
    if len(draft.described.signatures) > 1:
        named = ", ".join(clean(name, 80) for name in draft.described.signatures[:_MAX_TENSORS])
        lines.append(comment(f'signature = "…"  one of: {named}; now it is serving_default or the first'))
    return "\n".join(lines)


def _tool(draft: Draft) -> str:
    about = draft.about
    tool = re.sub(r"[^A-Za-z0-9_]+", "_", draft.name)[:64].strip("_") or "model"
    does = "Says which of {} a picture shows." if draft.is_classifier else "Runs the model {} on tensors."
    usual = does.format(f"{len(about.labels)} things" if draft.is_classifier else draft.file)
    return "\n".join(
        [
            "[tool]",
            f"name = {toml.value(tool)}  # better a verb and a noun, such as classify_bird",
            f"title = {toml.value(about.title or draft.name)}",
            "# What a language model has to know to choose the tool and to use it: what it is good for, and what not.",
            f"description = {toml.value(about.description or usual)}",
        ]
    )


def _image_input(draft: Draft) -> str:
    assert draft.picture is not None  # noqa: S101 - see is_classifier
    picture, about = draft.picture, draft.about
    sides = [side if side > 0 else _DEFAULT_SIDE for side in picture.size]
    guessed = "  # guessed: the file takes any size" if -1 in picture.size else ""
    scale, why = picture_scale(draft.described.signature.inputs[0], about.scale)
    return "\n".join(
        [
            "[input]",
            'kind = "image"  # guessed from the shape of the input',
            f"size = {toml.value(sides)}{guessed}",
            f"layout = {toml.value(picture.layout)}",
            'fit = "stretch"  # guessed: letterbox and crop are the others',
            'channels = "RGB"  # guessed: models trained with OpenCV want "BGR"',
            f"# Each value x of 0 to 255 becomes (x - a) / b. {why}",
            "# Usual are [0.0, 255.0], [127.5, 127.5] and, for 0 to 255, [0.0, 1.0]. Wrong ones give poor labels and no error.",
            f"scale = {toml.value(list(scale))}",
        ]
    )


def picture_scale(spec: TensorSpec, said: tuple[float, float] | None) -> tuple[tuple[float, float], str]:
    """`input.scale`, before the quantization of the input, which edge-mcp applies itself; and where it comes from."""
    if said is not None and (spec.quantization is not None or spec.datatype in ("FP32", "FP16")):
        return said, "The file says so."
    if spec.datatype in ("FP32", "FP16"):
        return (0.0, 255.0), "Guessed."
    lowest = 0.0 if spec.datatype == "UINT8" else 128.0
    quantization = spec.quantization
    if quantization is None or len(quantization.scale) != 1 or not quantization.scale[0] > 0:
        return (lowest, 1.0), "Guessed: the input takes the pixels as they are."
    # real = scale * (x - lowest - zero point), which the runtime's own quantization leads back to the pixel x
    zero = quantization.zero_point[0] if quantization.zero_point else 0
    return (lowest + zero, 1 / quantization.scale[0]), "Guessed: so that the integers are the pixels as they are."


def _softmax_output(draft: Draft) -> str:
    about = draft.about
    lines = [
        "[output]",
        'decoder = "softmax"  # one score for each label',
        f"labels = {toml.value(LABELS_NAME)}",
        f"activation = {toml.value(draft.activation)}  # seen in a trial run: "
        + ("the scores are made into shares" if draft.activation == "softmax" else "the scores add up to 1 already"),
    ]
    if about.threshold is not None:
        lines.append(f"threshold = {toml.value(about.threshold)}")
    return "\n".join(lines)


def _tensors(draft: Draft) -> str:
    """The sections of a tensor tool, and what would make more of it."""
    lines = [
        "[input]",
        'kind = "tensor"  # one argument for each input',
        "",
        "[output]",
        'decoder = "raw"  # the outputs as they are',
    ]
    picture, count = find_picture(draft.described.signature), class_count(draft.described.signature)
    if draft.refused:
        lines += ["", comment(f"As a classifier of pictures it was refused: {draft.refused}")]
    elif picture and count and picture.channels == 3:
        lines += [
            "",
            f"# It looks like a classifier of pictures with {count} classes. With a file of {count} labels, one a line:",
            "# edge-mcp models init FILE --labels LABELS",
        ]
    elif picture and picture.channels == 3:
        lines += [
            "",
            '# Its input looks like a picture: see input.kind = "image", and the decoders ssd and blazeface, in README.md.',
        ]
    if draft.about.labels and not draft.refused:
        lines += [
            "",
            comment(
                f"{LABELS_NAME} has {len(draft.about.labels)} labels, and no output of the file is one score for each of them."
            ),
        ]
    return "\n".join(lines)


def _rest(draft: Draft) -> str:
    inputs = draft.described.signature.inputs
    if draft.is_classifier:
        call = ['# arguments = { image = "@sample.jpg" }  # a file in this folder', '# expect = { label = "…" }']
    else:
        arguments = {name: f"@{index}.json" for index, name in enumerate(argument_names(inputs[:_MAX_TENSORS]))}
        call = [comment(f"arguments = {toml.value(arguments)}") + "  # files in this folder", "# expect = { outputs = { … } }"]
    return "\n".join(
        [
            "[scheduling]",
            "deadline_ms = 10000  # how long a run may take",
            "",
            "# edge-mcp models check makes this call and compares the answer:",
            "# [[check]]",
            *call,
        ]
    )


def _are_sides(*sizes: int) -> bool:
    return all(size == -1 or 8 <= size <= _MAX_SIDE for size in sizes)


def folder_name(file: Path) -> str:
    """A name for the model: the file's, as names have to be."""
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:64].strip("-") or "model"
