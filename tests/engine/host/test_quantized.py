"""Integers that stand for reals: raw for who sends raw, real for who sends reals, and real for modalities and decoders."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

from edge_mcp.engine.host.quantized import RealValues, dequantize, quantize
from edge_mcp.engine.host.runtimes.base import DATATYPES, RuntimeOptions
from edge_mcp.engine.host.runtimes.litert import LitertRuntime
from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.messages import Item, ModelSpec, Quantization
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SoftmaxOutput
from edge_mcp.repository.sections import ModelSection, ToolSection
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.results import output_schema
from tests.tflite_files import Graph, Tensor, model

BARE = Manifest(ModelSection("odd", "1.0.0", "odd.tflite"), ToolSection("odd"))
STEP = ([0.5], [-10], 0)


@given(
    st.sampled_from(["INT8", "UINT8", "INT16"]),
    st.floats(2**-12, 1024, width=32),
    st.integers(-100, 100),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9),
)
def test_there_and_back(datatype: str, scale: float, point: int, values: list[float]) -> None:
    """Within half a step, or at an end of the range."""
    quantization = Quantization((scale,), (point,))
    reals = np.array(values, np.float32)
    integers = quantize(reals, quantization, datatype)
    assert integers.dtype == DATATYPES[datatype]
    back = dequantize(integers, quantization)
    assert back.dtype == np.float32
    limits = np.iinfo(integers.dtype)
    low, high = ((limit - point) * scale for limit in (limits.min, limits.max))
    assert np.allclose(back, np.clip(reals, low, high), rtol=1e-5, atol=scale * 0.5001)
    assert (quantize(back, quantization, datatype) == integers).all()


def test_channels() -> None:
    quantization = Quantization((1.0, 0.5), (0, 10), 1)
    reals = np.array([[[3.0, -3.0], [3.0, -3.0]]])
    integers = quantize(reals, quantization, "INT8")
    assert integers.tolist() == [[[3, -3], [16, 4]]]
    assert dequantize(integers, quantization).tolist() == reals.tolist()


def same(folder: Path, shape: tuple[int, ...], to: tuple[int, ...], steps: Any = STEP) -> Path:
    """A file that gives its int8 values in another shape."""
    tensors = [
        Tensor("x", "int8", shape, None, None, steps),
        Tensor("shape", "int32", (len(to),), None, np.array(to, np.int32)),
        Tensor("y", "int8", to, None, None, steps),
    ]
    path = folder / "odd.tflite"
    path.write_bytes(model([Graph(tensors, [("RESHAPE", [0, 1], [2], schema.ReshapeOptionsT())], [0], [2])]))
    return path


def tool(path: Path) -> ServedModel:
    return ServedModel.load(ModelSpec("odd", str(path.parent), BARE, input_schema(BARE, describe(path).signature)))


def call(model: ServedModel, **arguments: Any) -> dict[str, Any]:
    outcome = model.run([Item(json.dumps(arguments).encode())], lambda stage: None)[0][0]
    assert not outcome.error, outcome.error
    answer: dict[str, Any] = json.loads(outcome.structured)
    jsonschema.Draft202012Validator(output_schema(BARE)).validate(answer)
    return answer


def test_the_signature_says_it(tmp_path: Path) -> None:
    described = describe(same(tmp_path, (1, 4), (4,)))
    assert described.signature.inputs[0].quantization == Quantization((0.5,), (-10,))
    kept = msgspec.json.decode(msgspec.json.encode(described), type=type(described))
    assert kept == described
    properties = input_schema(BARE, described.signature)["properties"]
    assert properties["dequantize"]["default"] is False
    assert "stand for reals, 0.5 * (integer - -10); FP32" in properties["x"]["description"]


@pytest.mark.parametrize(
    ("x", "raw"),
    [
        ([[-128, -10, 0, 127]], [-128, -10, 0, 127]),
        ([[1.0, 2.0, 3.0, 4.0]], [1, 2, 3, 4]),
        ([[0.5, 0, -0.5, 1]], [-9, -10, -11, -8]),
        ([[1e9, -1e9, 0.1, 0.3]], [127, -128, -10, -9]),
        ({"dtype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}, [1, 2, 3, 4]),
        ({"dtype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}, [-8, -6, -4, -2]),
        ({"dtype": "float64", "shape": [1, 4], "data": [[1, 2, 3, 4]]}, [-8, -6, -4, -2]),
        (
            {
                "dtype": "FP32",
                "shape": [1, 4],
                "data": base64.b64encode(np.array([0, 1, np.inf, -np.inf], "<f4").tobytes()).decode(),
            },
            [-10, -8, 127, -128],
        ),
    ],
)
def test_raw_integers_stay_and_reals_are_quantized(tmp_path: Path, x: Any, raw: list[int]) -> None:
    odd = tool(same(tmp_path, (1, 4), (4,)))
    assert call(odd, x=x, encoding="list")["outputs"]["y"] == {
        "dtype": "INT8",
        "shape": [4],
        "data": raw,
        "scale": 0.5,
        "zero_point": -10,
    }
    real = call(odd, x=x, encoding="list", dequantize=True)["outputs"]["y"]
    assert real == {"dtype": "FP32", "shape": [4], "data": [(one + 10) / 2 for one in raw]}


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ([[300, 0, 0, 0]], "outside the range of INT8"),
        ([[0.5, 0]], "has shape [1, 2], but the model takes [1, 4]"),
        ([[1e300, 0.5, 0, 0]], "outside the range of FP32"),
        ({"dtype": "INT32", "shape": [1, 4], "data": [0] * 4}, "the model takes INT8, or FP32 to be quantized"),
        ({"dtype": "INT8", "shape": [1, 4], "data": [0.5] * 4}, "whole numbers only"),
        (
            {"dtype": "FP32", "shape": [1, 4], "data": base64.b64encode(np.array([np.nan] * 4, "<f4").tobytes()).decode()},
            "has NaN, for which no INT8 stands",
        ),
    ],
)
def test_refusals(tmp_path: Path, x: Any, said: str) -> None:
    outcome = tool(same(tmp_path, (1, 4), (4,))).run([Item(json.dumps({"x": x}).encode())], lambda stage: None)[0][0]
    assert said in outcome.error


def test_scales_of_channels_go_with_the_answer(tmp_path: Path) -> None:
    steps = ([0.5, 0.25], [0, 1], 1)
    answer = call(tool(same(tmp_path, (3, 2), (3, 2), steps)), x=[[1, 1]] * 3)["outputs"]["y"]
    assert (answer["scale"], answer["zero_point"], answer["axis"]) == ([0.5, 0.25], [0, 1], 1)


def test_a_model_in_reals(tmp_path: Path) -> None:
    real = RealValues(LitertRuntime().load(same(tmp_path, (1, 4), (4,)), RuntimeOptions()))
    assert [(spec.datatype, spec.quantization) for spec in (*real.inputs, *real.outputs)] == [("FP32", None)] * 2
    reals = np.array([[0.5, 1, -1, 1000]], np.float32)
    assert real.infer({"x": reals})["y"].tolist() == [0.5, 1, -1, 68.5]
    assert not real.batch_axes
    real.close()


def test_pictures_and_scores_are_real(tmp_path: Path) -> None:
    """An int8 model of 1/255 a step takes what the manifest makes of a picture, and its scores come out of the same steps."""
    same(tmp_path, (1, 1, 1, 3), (1, 3), ([1 / 255], [-128], 0))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    manifest = replace(
        BARE,
        input=ImageInput((1, 1), scale=(0.0, 255.0)),
        output=SoftmaxOutput("labels.txt", activation="none"),
    )
    odd = ServedModel.load(ModelSpec("odd", str(tmp_path), manifest, input_schema(manifest, None)))
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (51, 204, 102)).save(buffer, "PNG")
    item = Item(json.dumps({"image": base64.b64encode(buffer.getvalue()).decode()}).encode())
    outcome = odd.run([item], lambda stage: None)[0][0]
    assert [(one["label"], one["score"]) for one in json.loads(outcome.structured)["labels"]] == [
        ("green", 0.8),
        ("blue", 0.4),
        ("red", 0.2),
    ]
