"""Tensors arrive as lists or base64, and nothing about them is guessed, cut or wrapped."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_mcp.engine.host.decoders.raw import RawDecoder
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.tensor import TensorModality
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.sections import ModelSection, ToolSection

NUMERIC = [name for name in DATATYPES if name != "BYTES"]
MANIFEST = Manifest(ModelSection("bare", "1.0.0", "bare.onnx"), ToolSection("bare"))


def read(value: Any, datatype: str = "FP32", shape: tuple[int, ...] = (-1,)) -> Array:
    modality = TensorModality(TensorInput(), [TensorSpec("x", datatype, shape)], Path())
    return modality.prepare({"x": value}, []).tensors["x"]


def refusal(value: Any, datatype: str = "FP32", shape: tuple[int, ...] = (-1,)) -> str:
    with pytest.raises(ArgumentError) as caught:
        read(value, datatype, shape)
    assert len(str(caught.value)) < 300
    return str(caught.value)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@given(st.data())
def test_what_is_answered_can_be_sent(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(NUMERIC))
    shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    array = data.draw(npst.arrays(DATATYPES[datatype], shapes))
    if DATATYPES[datatype].kind == "f":
        array = np.nan_to_num(array, posinf=0, neginf=0)
    spec = TensorSpec("x", datatype, array.shape)
    for encoding in ("list", "base64"):
        prepared = TensorModality(TensorInput(), [spec], Path()).prepare
        decoder = RawDecoder(MANIFEST, [spec], Path())
        answered = decoder.decode({"x": array}, Prepared({}), {"encoding": encoding}).structured["outputs"]["x"]
        back = prepared({"x": answered}, []).tensors["x"]
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert (back == array).all()


@given(st.sampled_from(NUMERIC), st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_anything_gives_a_tensor_or_a_clear_refusal(datatype: str, value: Any) -> None:
    try:
        array = read(value, datatype)
    except ArgumentError as error:
        assert len(str(error)) < 300
    else:
        assert array.dtype == DATATYPES[datatype]


def test_lists() -> None:
    assert read([1, 2.5]).tolist() == [1, 2.5]
    assert read([[1, 2], [3, 4]], "INT32", (-1, 2)).tolist() == [[1, 2], [3, 4]]
    assert read([1.0, 2.0], "INT64").tolist() == [1, 2]
    assert read(5, "INT64", ()).shape == ()
    assert read([], "INT8").shape == (0,)
    assert read([True, False], "BOOL").tolist() == [True, False]
    assert read([2**64 - 1, 2**63 + 1], "UINT64").tolist() == [2**64 - 1, 2**63 + 1]
    assert read(["a", "bc"], "BYTES").tolist() == ["a", "bc"]
    assert read([1.5], "FP16").dtype == np.float16


def test_objects() -> None:
    four = np.arange(4, dtype="<f4")
    for dtype in ("FP32", "fp32", "float32", "Float32"):
        assert read({"dtype": dtype, "shape": [2, 2], "data": encoded(four.tobytes())}, shape=(2, 2)).tolist() == [
            [0, 1],
            [2, 3],
        ]
    assert read({"dtype": "FP32", "shape": [2, 2], "data": [0, 1, 2, 3]}, shape=(-1, 2)).tolist() == [[0, 1], [2, 3]]
    assert read({"dtype": "FP32", "shape": [2, 2], "data": [[0, 1], [2, 3]]}, shape=(-1, 2)).tolist() == [[0, 1], [2, 3]]
    assert read({"dtype": "INT64", "shape": [], "data": 7}, "INT64", ()).item() == 7
    assert read({"dtype": "BYTES", "shape": [1], "data": ["x"]}, "BYTES").tolist() == ["x"]
    assert read({"dtype": "BOOL", "shape": [3], "data": encoded(b"\x00\x01\x07")}, "BOOL").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "said"),
    [
        ([[1, 2], [3]], "FP32", (-1, 2), "not a regular nested list"),
        ([1, [2]], "FP32", (-1,), "not a regular nested list"),
        ([1, 2, 3], "FP32", (-1, 3), "shape [3], but the model takes [-1, 3]. One more list around it"),
        ([[1, 2]], "FP32", (-1, 3), "shape [1, 2], but the model takes [-1, 3]. -1 stands for any size"),
        (["a"], "FP32", (-1,), "numbers only"),
        ([None], "FP32", (-1,), "numbers only"),
        ([{}], "FP32", (-1,), "numbers only"),
        ([True], "FP32", (-1,), "numbers only"),
        ([1.5], "INT32", (-1,), "whole numbers only: the model takes INT32"),
        ([True], "INT32", (-1,), "numbers only"),
        ([128], "INT8", (-1,), "outside the range of INT8"),
        ([-1], "UINT8", (-1,), "outside the range of UINT8"),
        ([3e9], "INT32", (-1,), "outside the range of INT32"),
        ([2.0**63], "INT64", (-1,), "outside the range of INT64"),
        ([2**63], "INT64", (-1,), "outside the range of INT64"),
        ([2**80], "INT64", (-1,), "outside the range of INT64"),
        ([1e39], "FP32", (-1,), "outside the range of FP32"),
        ([70000], "FP16", (-1,), "outside the range of FP16"),
        ([2**2000], "FP64", (-1,), "outside the range of FP64"),
        ([0, 1], "BOOL", (-1,), "true and false only"),
        ([1], "BYTES", (-1,), "list of strings"),
        (["a", ["b"]], "BYTES", (-1,), "list"),
        ({"dtype": "FP64", "shape": [1], "data": [1]}, "FP32", (-1,), "dtype is 'FP64', but the model takes FP32"),
        ({"dtype": "object", "shape": [1], "data": ["x"]}, "BYTES", (-1,), "dtype is 'object'"),
        ({"dtype": "FP32", "shape": [2], "data": "AAAA"}, "FP32", (-1,), "data has 3 bytes, but FP32 of shape [2] has 8"),
        ({"dtype": "FP32", "shape": [1], "data": "?"}, "FP32", (-1,), "not valid base64"),
        ({"dtype": "FP32", "shape": [3], "data": [1, 2]}, "FP32", (-1,), "data has shape [2], not [3]"),
        ({"dtype": "FP32", "shape": [4], "data": [[1, 2], [3, 4]]}, "FP32", (-1,), "data has shape [2, 2], not [4]"),
        ({"dtype": "FP32", "shape": [0, 2**70], "data": ""}, "FP32", (-1, -1), "is not possible"),
        ({"dtype": "FP32", "shape": [1] * 200, "data": [1]}, "FP32", (-1,), "is not possible"),
    ],
)
def test_refusals(value: Any, datatype: str, shape: tuple[int, ...], said: str) -> None:
    assert said in refusal(value, datatype, shape)


def test_deep_lists() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert "x" in refusal(deep)
