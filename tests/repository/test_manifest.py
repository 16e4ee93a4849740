"""`model.toml`."""

from pathlib import Path

import pytest

from edge_mcp.errors import ManifestError
from edge_mcp.repository.inputs import ImageInput, TensorInput
from edge_mcp.repository.manifest import parse, read
from edge_mcp.repository.outputs import RawOutput, SoftmaxOutput

LEAST = """
[model]
name = "bird-classifier"
version = "1.0.0"
file = "birds.onnx"
[tool]
name = "classify_bird"
"""
WHOLE = (
    LEAST
    + """
[input]
kind = "image"
size = [224, 224]
layout = "NCHW"
[output]
decoder = "softmax"
labels = "birds.txt"
[scheduling]
deadline_ms = 500
[resources]
threads = 2
"""
)


def test_a_manifest_without_input_and_output_is_of_a_tensor_tool() -> None:
    manifest = parse(LEAST)
    assert isinstance(manifest.input, TensorInput)
    assert isinstance(manifest.output, RawOutput)
    assert manifest.scheduling.deadline_ms == 10_000


def test_every_section_is_read() -> None:
    manifest = parse(WHOLE)
    assert manifest.input == ImageInput(size=(224, 224), layout="NCHW")
    assert manifest.output == SoftmaxOutput(labels="birds.txt")
    assert (manifest.scheduling.deadline_ms, manifest.resources.threads) == (500, 2)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[model]", "[model", "not valid TOML"),
        ('version = "1.0.0"', "", "missing required field `version`"),
        ('version = "1.0.0"', "version = 1", "Expected `str`, got `int`"),
        ("threads = 2", "thread = 2", "unknown field `thread`.*Did you mean 'threads'"),
        ("[resources]", "[resource]", "unknown field `resource`.*Did you mean 'resources'"),
        ('kind = "image"', 'kind = "picture"', "Invalid value 'picture'"),
        ('decoder = "softmax"', 'decoder = "soft"', "Invalid value 'soft'"),
        ('layout = "NCHW"', 'layout = "CHWN"', "Invalid enum value 'CHWN'"),
        ("size = [224, 224]", "size = [224]", "length 2"),
        ("size = [224, 224]", "size = [0, 224]", "input.size"),
        ("size = [224, 224]", "size = [224, 224]\nscale = [0.0, 0.0]", "divisor"),
        ("size = [224, 224]", "size = [224, 224]\ncrop_fraction = 1.5", "crop_fraction"),
        ("bird-classifier", "Bird Classifier", "lower-case"),
        ("birds.onnx", "../birds.onnx", "file in this folder"),
        ("birds.onnx", "birds.pt", ".onnx or .tflite"),
        ("classify_bird", "classify bird", "letters, digits"),
        ('file = "birds.onnx"', 'file = "birds.onnx"\nsha256 = "abc"', "64 lower-case hex"),
        ("deadline_ms = 500", "deadline_ms = 0", "positive"),
        ("threads = 2", "threads = 0", "1 to 64"),
        ('kind = "image"\nsize = [224, 224]\nlayout = "NCHW"', 'kind = "tensor"', 'decoder "raw"'),
        ('decoder = "softmax"\nlabels = "birds.txt"', 'decoder = "raw"', 'input.kind = "tensor"'),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(old: str, new: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(ManifestError, match=f"(?s)model.toml: .*{said}") as wrong:
        parse(WHOLE.replace(old, new))
    assert "\n" not in str(wrong.value)


def test_a_folder_has_the_models_name(tmp_path: Path) -> None:
    folder = tmp_path / "other-name"
    folder.mkdir()
    (folder / "model.toml").write_text(WHOLE)
    with pytest.raises(ManifestError, match="'bird-classifier', but its folder is 'other-name'"):
        read(folder)


def test_a_manifest_that_is_no_text_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="cannot be read"):
        read(tmp_path)
