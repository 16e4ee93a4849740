"""`[[steps]]` of a `model.toml`: a tool of two models, of which the second looks at what the first one finds in a picture."""

from collections.abc import Iterator, Sequence
from typing import Any

from edge_mcp.repository.inputs import ImageInput, Input
from edge_mcp.repository.outputs import BlazefaceOutput, CtcOutput, Output, RawOutput, SoftmaxOutput, SsdOutput, TextBoxesOutput
from edge_mcp.repository.sections import Section

FINDERS = (SsdOutput, BlazefaceOutput, TextBoxesOutput)
"""Decoders whose results are boxes in a picture."""
_LOOKERS = (SoftmaxOutput, CtcOutput, RawOutput)
_MAX_MARGIN = 4.0

Problem = tuple[bool, str, str]
"""Whether something is wrong, what, and what would be right."""


class Step(Section, frozen=True):
    """One model of a pipeline. The first step finds boxes in the picture, the second gets each box's part of the picture.

    A box grows by `margin` times its shorter side at each of its sides before it is cut out, as far as the picture goes.
    """

    file: str
    input: Input
    output: Output
    sha256: str = ""
    signature: str = ""
    margin: float = 0.0


def step_problems(steps: Sequence[Step], data: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with the steps as such; `data` is the whole file."""
    if "steps" not in data:
        return
    written: list[str] = [name for name in ("input", "output") if name in data]
    written += [f"model.{name}" for name in ("file", "sha256", "signature") if name in data["model"]]
    yield bool(written), f"{', '.join(written)} beside [[steps]]", "Write it into the step that it belongs to"
    yield (
        len(steps) != 2,
        f"a pipeline of {len(steps)} [[steps]]",
        "Write two: one that finds boxes, and one for what is in them",
    )
    if len(steps) != 2:
        return
    first, second = steps
    yield not isinstance(first.output, FINDERS), "output.decoder of step 1", f"Of a picture's boxes: {_tags(FINDERS)}"
    yield not isinstance(second.input, ImageInput), "input.kind of step 2", 'It gets parts of a picture: "image"'
    yield not isinstance(second.output, _LOOKERS), "output.decoder of step 2", f"Write one of {_tags(_LOOKERS)}"
    yield first.margin != 0, "margin of step 1", "Only the second step cuts boxes out"
    yield not 0 <= second.margin <= _MAX_MARGIN, "margin of step 2", f"Write a number from 0 to {_MAX_MARGIN:g}"


def picture_problems(place: str, picture: ImageInput, output: Output) -> Iterator[Problem]:
    """What types alone do not say of a picture; `place` says which step it belongs to, if any."""
    proportional = picture.fit == "proportional"
    least = 0 if proportional else 1
    yield (
        not all(least <= side <= 8192 for side in picture.size),
        f"input.size{place}",
        f"Write [width, height] in pixels, each from {least} to 8192",
    )
    yield (
        proportional and all(picture.size),
        f'input.size{place} with fit = "proportional"',
        "Write 0 for the side that follows the picture's proportions, or for both",
    )
    yield (
        proportional and isinstance(output, SsdOutput | BlazefaceOutput),
        f'input.fit = "proportional"{place}',
        "This decoder's anchors need a fixed size: letterbox, crop or stretch",
    )
    yield (
        not 1 <= picture.multiple <= picture.max_side <= 8192 or not 1 <= picture.min_side <= picture.max_side,
        f"input.min_side, max_side or multiple{place}",
        "Write pixels from 1 to 8192; max_side is the largest of the three",
    )
    yield not 0 < picture.crop_fraction <= 1, f"input.crop_fraction{place}", "Write a number above 0 and up to 1"
    yield picture.scale[1] == 0, f"input.scale{place}", "The divisor must not be 0"


def output_problems(place: str, output: Output) -> Iterator[Problem]:
    """What types alone do not say of a decoder."""
    if isinstance(output, TextBoxesOutput):
        yield not 0 <= output.pixel_threshold < 1, f"output.pixel_threshold{place}", "Write a number from 0 to below 1"
        yield not 0 <= output.unclip <= 10, f"output.unclip{place}", "Write a number from 0 to 10"
        yield output.min_side < 1, f"output.min_side{place}", "Write a positive number of pixels"
    if isinstance(output, CtcOutput):
        yield output.blank < 0, f"output.blank{place}", "Write the number of the class that is no character, from 0"


def _tags(structs: Sequence[Any]) -> str:
    return ", ".join(f'"{struct.__struct_config__.tag}"' for struct in structs)
