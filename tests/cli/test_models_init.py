"""`edge-mcp models init`: a manifest from a model file, which runs as written."""

import base64
import io
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge_mcp.repository.manifest import MANIFEST_NAME, read
from tests.cli.command import FIXTURES, Ran, edge_mcp
from tests.repository.tflite import LABELS, metadata, with_metadata

MODELS = FIXTURES / "models"
NAMES = {"names": "{0: 'red', 1: 'green', 2: 'blue'}"}
HOSTILE = 'x"\n[resources]\nthreads = 64\n"""\n\\u0000\x1b[31m # ' + "y" * 50_000


def colours(path: Path, said: Mapping[str, str], layout: str = "NHWC", softmax: bool = True) -> Path:
    """Says which colour a picture has most of: the mean of each channel, sharpened."""
    size = [1, 16, 24, 3] if layout == "NHWC" else [1, 3, 16, 24]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2] if layout == "NHWC" else [2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["logits" if softmax else "y"]),
        *([helper.make_node("Softmax", ["logits"], ["y"], axis=1)] if softmax else []),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.array(10, np.float32), "ten")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(said))
    onnx.save(model, str(path))
    return path


def init(tmp_path: Path, *words: str) -> Ran:
    ran = edge_mcp("models", "init", *words, cwd=tmp_path)
    assert (ran.status, ran.err) == (0, ""), ran
    return ran


def call(folder: Path, tool: str, *words: str) -> Any:
    ran = edge_mcp("call", tool, *words, "--json", "--models", str(folder))
    assert ran.status == 0, ran
    return json.loads(ran.out)


def picture(tmp_path: Path, colour: str) -> str:
    Image.new("RGB", (40, 30), colour).save(tmp_path / f"{colour}.png")
    return f"image=@{tmp_path / colour}.png"


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_classifier_that_carries_its_labels_runs_as_written(tmp_path: Path, layout: str) -> None:
    (tmp_path / "given").mkdir()
    file = colours(tmp_path / "given" / "Colours_v2.onnx", {**NAMES, "license": "MIT", "description": "Says it."}, layout)
    ran = init(tmp_path, str(file))
    manifest = read(tmp_path / "colours-v2")
    assert (manifest.model.license, manifest.tool.description) == ("MIT", "Says it.")
    written = (tmp_path / "colours-v2" / MANIFEST_NAME).read_text()
    assert "- input 'x': FP32 [1, " in written
    assert "guessed" in written
    assert f'layout = "{layout}"' in written
    assert (tmp_path / "colours-v2" / "labels.txt").read_text() == "red\ngreen\nblue\n"
    assert "3 labels" in ran.out
    assert call(tmp_path, "colours_v2", picture(tmp_path, "green"))["label"] == "green"
    assert edge_mcp("models", "check", "colours-v2", "--models", str(tmp_path)).status == 0


@pytest.mark.parametrize(("softmax", "activation"), [(True, "none"), (False, "softmax")])
def test_whether_the_scores_are_shares_already_is_tried_out(tmp_path: Path, softmax: bool, activation: str) -> None:
    init(tmp_path, str(colours(tmp_path / "c.onnx", NAMES, softmax=softmax)))
    assert f'activation = "{activation}"' in (tmp_path / "c" / MANIFEST_NAME).read_text()


def test_labels_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("rot\ngrün\nblau\n", "utf-8")
    init(tmp_path, str(colours(tmp_path / "c.onnx", {})), "--labels", str(tmp_path / "names.txt"), "--out", "farben")
    assert call(tmp_path, "farben", picture(tmp_path, "blue"))["label"] == "blau"


def test_a_bare_file_that_is_left_beside_the_folder_is_told_of(tmp_path: Path) -> None:
    ran = init(tmp_path, str(colours(tmp_path / "c.onnx", NAMES)))
    assert "note: c.onnx lies beside the folder" in ran.out


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    file = str(colours(tmp_path / "c.onnx", {}))
    error = edge_mcp("models", "init", file, "--labels", str(tmp_path / "names.txt"), cwd=tmp_path).failed()
    assert error == "there are 2 labels, but the model has 3 classes. Write one line for each"
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["sine_float.tflite", "mlp_int8.onnx", "hey_mycroft_int8.tflite", "dscnn_int8.onnx"])
def test_any_other_model_becomes_a_tensor_tool(tmp_path: Path, name: str) -> None:
    init(tmp_path, str(MODELS / name))
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    written = tomllib.loads((folder / MANIFEST_NAME).read_text())
    assert written["input"] == {"kind": "tensor"}
    assert len(written["model"]["sha256"]) == 64
    assert edge_mcp("models", "check", "--models", str(tmp_path)).status == 0


def test_quantization_is_in_the_comments(tmp_path: Path) -> None:
    init(tmp_path, str(MODELS / "hey_mycroft_int8.tflite"))
    written = (tmp_path / "hey-mycroft-int8" / MANIFEST_NAME).read_text()
    assert "quantized: real = 0.1019" in written
    assert "* (integer - -128)" in written


def test_what_tflite_metadata_says_is_written(tmp_path: Path) -> None:
    texts = {"name": "Sine", "description": "The sine of a number.", "license": "Apache-2.0", "author": "Ada"}
    content = with_metadata((MODELS / "sine_float.tflite").read_bytes(), metadata(texts), {LABELS: b"a\nb\n"})
    (tmp_path / "sine.tflite").write_bytes(content)
    init(tmp_path, "sine.tflite")
    manifest = read(tmp_path / "sine")
    assert (manifest.tool.title, manifest.tool.description, manifest.model.license) == (
        "Sine",
        "The sine of a number.",
        "Apache-2.0",
    )
    written = (tmp_path / "sine" / MANIFEST_NAME).read_text()
    assert "made by: Ada" in written
    assert "(image: The picture.)" in written
    assert "2 labels" in written


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_hostile_metadata_stays_text(tmp_path: Path, suffix: str) -> None:
    keys = ("name", "description", "author", "license", "version")
    texts = dict.fromkeys(keys, HOSTILE)
    file = tmp_path / f"evil{suffix}"
    if suffix == ".onnx":
        labels = json.dumps([HOSTILE[:300], "../../x\n[model]", '"""'])
        colours(file, {**texts, "names": labels})
    else:
        content = (MODELS / "sine_float.tflite").read_bytes()
        file.write_bytes(with_metadata(content, metadata(texts), {LABELS: HOSTILE.encode()}))
    ran = init(tmp_path, str(file))
    assert all(char.isprintable() or char == "\n" for char in ran.out)
    written = (tmp_path / "evil" / MANIFEST_NAME).read_text("utf-8")
    assert all(char.isprintable() or char == "\n" for char in written)
    assert len(written) < 8000
    manifest = read(tmp_path / "evil")
    assert manifest.resources.threads == 1
    assert (manifest.model.name, manifest.model.version) == ("evil", "1.0.0")
    assert sorted(path.name for path in (tmp_path / "evil").iterdir()) == sorted([f"evil{suffix}", "labels.txt", MANIFEST_NAME])


def test_a_hostile_file_name_stays_text(tmp_path: Path) -> None:
    file = tmp_path / 'a"\n[resources]\nthreads = 64 #\x1b[31m.tflite'
    file.write_bytes((MODELS / "sine_float.tflite").read_bytes())
    ran = init(tmp_path, str(file))
    assert "\x1b" not in ran.out
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert read(folder).resources.threads == 1


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    file = str(MODELS / "sine_float.tflite")
    init(tmp_path, file, "--out", "sine")
    manifest = tmp_path / "sine" / MANIFEST_NAME
    manifest.write_text("mine")
    error = edge_mcp("models", "init", file, "--out", "sine", cwd=tmp_path).failed()
    assert error == "sine/model.toml, sine/sine_float.tflite is there already. Overwrite with --force"
    assert manifest.read_text() == "mine"
    init(tmp_path, file, "--out", "sine", "--force")
    assert read(tmp_path / "sine").model.name == "sine"


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "sine").mkdir()
    (tmp_path / "sine" / MANIFEST_NAME).symlink_to(tmp_path / "precious")
    file = str(MODELS / "sine_float.tflite")
    edge_mcp("models", "init", file, "--out", "sine", cwd=tmp_path).failed()
    init(tmp_path, file, "--out", "sine", "--force")
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_folder_that_the_model_is_in_already_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "sine").mkdir()
    (tmp_path / "sine" / "s.tflite").write_bytes((MODELS / "sine_float.tflite").read_bytes())
    init(tmp_path, "sine/s.tflite", "--out", "sine")
    assert read(tmp_path / "sine").model.file == "s.tflite"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing.onnx",), "nothing.onnx is not there"),
        (("model.pt",), "Name a file that ends in .onnx or .tflite"),
        ((".",), "is no model"),
        (("{sine}", "--name", "No Name"), "Use lower-case letters"),
        (("{sine}", "--out", "a", "--name", "b"), "Write --out a/b"),
        (("{sine}", "--labels", "none.txt"), "cannot be read"),
        (("{bad}",), "cannot be loaded"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    files = {"sine": str(MODELS / "sine_float.tflite"), "bad": str(MODELS / "BAD_static_quant_fails_to_prepare.tflite")}
    error = edge_mcp("models", "init", *(word.format(**files) for word in words), cwd=tmp_path).failed()
    assert said in error
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_quantized_picture_gets_the_pixels_own_range(tmp_path: Path) -> None:
    """uint8 with a scale and a zero point: what the engine quantizes has to be the pixel again."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["real"]),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Softmax", ["mean"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 16, 16, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.array(0.5, np.float32), "scale"), numpy_helper.from_array(np.array(100, np.uint8), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, NAMES)
    onnx.save(model, str(tmp_path / "q.onnx"))
    init(tmp_path, "q.onnx")
    assert call(tmp_path, "q", picture(tmp_path, "red"))["label"] == "red"


def test_the_trial_picture_is_a_picture() -> None:
    from edge_mcp.cli.models.samples import encoded, picture

    with Image.open(io.BytesIO(base64.b64decode(encoded(picture(20, 10))))) as opened:
        assert (opened.size, opened.mode) == ((20, 10), "RGB")
        assert opened.getpixel((3, 4)) == (3, 4, 7)


def test_the_check_that_is_proposed_is_toml_once_it_is_no_comment(tmp_path: Path) -> None:
    init(tmp_path, str(FIXTURES / "models" / "mlp_int8.onnx"))
    text = (tmp_path / "mlp-int8" / "model.toml").read_text("utf-8")
    call = next(line for line in text.splitlines() if line.startswith("# arguments = "))
    assert list(tomllib.loads(call.removeprefix("# "))["arguments"].values()) == ["@0.json"]


def test_labels_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    model = str(FIXTURES / "models" / "mlp_int8.onnx")
    hint = "Write one label a line, in UTF-8"
    absent = tmp_path / "absent.txt"
    assert edge_mcp("models", "init", model, "--labels", str(absent), cwd=tmp_path).failed() == (
        f"the labels {absent} cannot be read: No such file or directory. {hint}"
    )
    (tmp_path / "latin.txt").write_bytes(b"\xe4\n")
    ran = edge_mcp("models", "init", model, "--labels", "latin.txt", cwd=tmp_path)
    assert ran.failed() == f"the labels latin.txt cannot be read: they are not UTF-8. {hint}"
