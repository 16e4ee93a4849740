"""`[[steps]]` of `model.toml`."""

import re
from pathlib import Path

import pytest

from edge_mcp.errors import ManifestError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import parse, read
from edge_mcp.repository.outputs import CtcOutput, SoftmaxOutput, SsdOutput, TextBoxesOutput

ROOT = Path(__file__).parents[2]
HEAD = """
[model]
name = "bird-namer"
version = "1.0.0"
[tool]
name = "name_birds"
"""
FIRST = """
[[steps]]
file = "find.onnx"
[steps.input]
kind = "image"
size = [0, 0]
fit = "proportional"
multiple = 32
[steps.output]
decoder = "text_boxes"
"""
SECOND = """
[[steps]]
file = "name.onnx"
margin = 0.25
[steps.input]
kind = "image"
size = [224, 224]
[steps.output]
decoder = "softmax"
labels = "birds.txt"
"""
SSD = 'decoder = "ssd"\nboxes = "b"\nscores = "s"\nlabels = "l"\nstrides = [16]'
WHOLE = HEAD + FIRST + SECOND


def test_a_pipeline_takes_what_its_first_step_takes() -> None:
    manifest = parse(WHOLE)
    assert manifest.input == ImageInput((0, 0), "proportional", multiple=32)
    assert manifest.output == TextBoxesOutput()
    assert (manifest.model.file, manifest.has_boxes) == ("find.onnx", True)


def test_each_step_is_a_model_of_its_own() -> None:
    first, second = parse(WHOLE + "[resources]\nthreads = 3\n").parts
    assert (first.model.file, second.model.file) == ("find.onnx", "name.onnx")
    assert second.input == ImageInput((224, 224))
    assert second.output == SoftmaxOutput("birds.txt")
    assert not second.steps
    assert (first.resources.threads, second.resources.threads, second.tool.name) == (3, 3, "name_birds")


def test_a_model_without_steps_is_its_only_part() -> None:
    manifest = parse(HEAD.replace("[tool]", 'file = "birds.onnx"\n[tool]'))
    assert manifest.parts == (manifest,)


def test_the_text_reader_that_ships() -> None:
    first, second = read(ROOT / "models" / "text-reader").parts
    assert isinstance(first.output, TextBoxesOutput)
    assert isinstance(second.output, CtcOutput)
    assert all(len(part.model.sha256) == 64 for part in (first, second))


def test_any_detector_can_come_first_and_tensors_last() -> None:
    text = WHOLE.replace('size = [0, 0]\nfit = "proportional"', "size = [300, 300]").replace('decoder = "text_boxes"', SSD)
    assert isinstance(parse(text).output, SsdOutput)
    parse(text.replace('decoder = "softmax"\nlabels = "birds.txt"', 'decoder = "raw"'))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (SECOND, "", "a pipeline of 1 .*Write two"),
        (SECOND, SECOND + SECOND, "a pipeline of 3"),
        (FIRST + SECOND, "", "model.file '' is not possible"),
        ("[tool]", 'file = "x.onnx"\n[tool]', r"model.file beside \[\[steps\]\]"),
        ("[tool]", 'sha256 = "x"\n[tool]', r"model.sha256 beside \[\[steps\]\]"),
        ('[[steps]]\nfile = "find', '[input]\nkind = "tensor"\n[[steps]]\nfile = "find', r"input beside \[\[steps\]\]"),
        ('"find.onnx"', '"../find.onnx"', "of step 1 is not possible. Name a file in this folder"),
        ('"name.onnx"', '"name.pt"', "of step 2 is not possible. Name a file"),
        ("margin = 0.25", 'sha256 = "abc"', "sha256 of step 2.*64 lower-case"),
        ("margin = 0.25", "margin = -0.1", "margin of step 2.*from 0 to 4"),
        ('"find.onnx"', '"find.onnx"\nmargin = 0.1', "margin of step 1.*second step"),
        ('decoder = "text_boxes"', 'decoder = "softmax"\nlabels = "x"', 'step 1.*"ssd", "blazeface", "text_boxes"'),
        ('decoder = "softmax"\nlabels = "birds.txt"', 'decoder = "text_boxes"', 'step 2.*"softmax", "ctc", "raw"'),
        (
            'kind = "image"\nsize = [224, 224]',
            'kind = "text"\nvocabulary = "v"',
            'input.kind of step 2.*parts of a picture: "image"',
        ),
        ('decoder = "text_boxes"', SSD, "input.fit.* of step 1.*fixed size"),
        ("size = [0, 0]", "size = [32, 32]", "input.size of step 1.*follows the picture's proportions"),
        ("size = [224, 224]", "size = [0, 224]", "input.size of step 2.*from 1 to 8192"),
        ("multiple = 32", "multiple = 0", "min_side, max_side or multiple of step 1"),
        ("multiple = 32", "multiple = 2048", "max_side is the largest"),
        ("multiple = 32", "min_side = 2000", "max_side is the largest"),
        ('decoder = "text_boxes"', 'decoder = "text_boxes"\npixel_threshold = 1.0', "output.pixel_threshold of step 1"),
        ('decoder = "text_boxes"', 'decoder = "text_boxes"\nunclip = -1', "output.unclip of step 1"),
        ('decoder = "text_boxes"', 'decoder = "text_boxes"\nmin_side = 0', "output.min_side of step 1"),
        ('decoder = "softmax"\nlabels = "birds.txt"', 'decoder = "ctc"\nlabels = "x"\nblank = -1', "output.blank of step 2"),
        ("margin = 0.25", "margins = 0.25", "unknown field `margins`.*Did you mean 'margin'"),
        ("multiple = 32", "multipl = 32", "unknown field `multipl`.*Did you mean 'multiple'"),
        ('labels = "birds.txt"', 'label = "birds.txt"', "Did you mean 'labels'"),
        ('decoder = "text_boxes"', 'decoder = "text_box"', "Did you mean 'text_boxes'"),
        (
            '[steps.input]\nkind = "image"\nsize = [0, 0]',
            '[steps.inputs]\nkind = "image"\nsize = [0, 0]',
            "Did you mean 'input'",
        ),
        ('"find.onnx"', "7", "Expected `str`, got `int`"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(old: str, new: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(ManifestError) as wrong:
        parse(WHOLE.replace(old, new))
    assert wrong.match(f"(?s)model.toml: .*{said}")
    assert "\n" not in str(wrong.value)


def test_the_manifests_in_the_readme_are_right() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    manifests = [parse(block) for block in blocks if block.startswith("[model]")]
    assert {"bird-classifier", "object-namer"} <= {manifest.model.name for manifest in manifests}
