"""LiteRT's own traps."""

import math
from pathlib import Path

import numpy as np
import pytest

from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.litert import LitertModel, LitertRuntime
from edge_mcp.errors import ArgumentError, ModelError

ROOT = Path(__file__).parents[4]


def load(path: str) -> LitertModel:
    return LitertRuntime().load(ROOT / path, RuntimeOptions())


def test_a_file_that_accepts_any_resize_is_not_batched() -> None:
    """Resized to 4, this file answers (1, 3584, 16): the batch is folded into the anchors, without an error."""
    faces = load("models/face-detector/face_short_range_fp16.tflite")
    assert not faces.dynamic_batch
    with pytest.raises(ArgumentError, match=r"\[1, 128, 128, 3\], not \[4, 128, 128, 3\]"):
        faces.infer({"input": np.zeros((4, 128, 128, 3), np.float32)})
    outputs = faces.infer({"input": np.zeros((1, 128, 128, 3), np.float32)})
    assert {name: array.shape for name, array in outputs.items()} == {"regressors": (1, 896, 16), "classificators": (1, 896, 1)}


def test_batches_of_changing_size() -> None:
    sine = load("tests/fixtures/models/sine_float.tflite")
    assert sine.dynamic_batch
    assert sine.inputs[0].name == "dense_input"  # the signature's name, not "serving_default_dense_input:0"
    for rows in (1, 7, 2, 7, 1):
        angles = np.linspace(0, math.pi, rows, dtype=np.float32).reshape(rows, 1)
        answer = sine.infer({"dense_input": angles})["dense_2"]
        assert answer.shape == (rows, 1)
        assert np.allclose(answer, np.sin(angles), atol=0.06)


def test_a_file_that_cannot_be_prepared() -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded: .*CONV_2D\) failed to prepare"):
        load("tests/fixtures/models/BAD_static_quant_fails_to_prepare.tflite")
