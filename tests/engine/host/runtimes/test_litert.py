"""LiteRT's own traps."""

import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge_mcp.engine.host.runtimes.base import DATATYPES, LoadedModel, RuntimeOptions
from edge_mcp.engine.host.runtimes.litert import LitertModel, LitertRuntime
from edge_mcp.errors import ArgumentError, ModelError

ROOT = Path(__file__).parents[4]


def load(path: str) -> LitertModel:
    return LitertRuntime().load(ROOT / path, RuntimeOptions())


def test_a_file_that_accepts_any_resize_is_not_batched() -> None:
    """Resized to 4, this file answers (1, 3584, 16): the batch is folded into the anchors, without an error."""
    faces = load("models/face-detector/face_short_range_fp16.tflite")
    assert not faces.batch_axes
    with pytest.raises(ArgumentError, match=r"\[1, 128, 128, 3\], not \[4, 128, 128, 3\]"):
        faces.infer({"input": np.zeros((4, 128, 128, 3), np.float32)})
    outputs = faces.infer({"input": np.zeros((1, 128, 128, 3), np.float32)})
    assert {name: array.shape for name, array in outputs.items()} == {"regressors": (1, 896, 16), "classificators": (1, 896, 1)}


def test_batches_of_changing_size() -> None:
    sine = load("tests/fixtures/models/sine_float.tflite")
    assert sine.batch_axes
    assert sine.inputs[0].name == "dense_input"  # the signature's name, not "serving_default_dense_input:0"
    for rows in (1, 7, 2, 7, 1):
        angles = np.linspace(0, math.pi, rows, dtype=np.float32).reshape(rows, 1)
        answer = sine.infer({"dense_input": angles})["dense_2"]
        assert answer.shape == (rows, 1)
        assert np.allclose(answer, np.sin(angles), atol=0.06)


def test_a_file_that_cannot_be_prepared() -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded: .*CONV_2D\) failed to prepare"):
        load("tests/fixtures/models/BAD_static_quant_fails_to_prepare.tflite")


def test_resource_variables_carry_nothing_over() -> None:
    """Other runs in between, a run by another lane and the very first run: the same input has the same answer."""
    wake = load("tests/fixtures/models/hey_mycroft_int8.tflite")
    name, output = wake.inputs[0].name, wake.outputs[0].name
    loud = np.full(wake.inputs[0].shape, 127, np.int8)
    noise = np.random.default_rng(0).integers(-128, 128, loud.shape, np.int8)
    inputs = [loud, noise, loud, np.zeros_like(loud), noise, loud] * 5
    answers: dict[bytes, set[bytes]] = {}
    for tensor in inputs:
        answers.setdefault(tensor.tobytes(), set()).add(wake.infer({name: tensor})[output].tobytes())
    assert [len(each) for each in answers.values()] == [1, 1, 1]


def test_only_files_with_state_pay_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(path: str, **options: int) -> Interpreter:
        made.append(path)
        return Interpreter(path, **options)

    monkeypatch.setattr("edge_mcp.engine.host.runtimes.litert.Interpreter", make)
    for file, count in (("sine_float", 1), ("mlp_int8", 1), ("hey_mycroft_int8", 3)):
        made.clear()
        model = load(f"tests/fixtures/models/{file}.tflite")
        tensor = model.inputs[0]
        shape = [max(size, 1) for size in tensor.shape]
        for _ in range(3):
            model.infer({tensor.name: np.zeros(shape, DATATYPES[tensor.datatype])})
        assert len(made) == count


def test_lanes_that_load_at_once_leave_standard_error_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: str, **options: int) -> Interpreter:
        time.sleep(0.05)
        return Interpreter(path, **options)

    monkeypatch.setattr("edge_mcp.engine.host.runtimes.litert.Interpreter", slow)
    before = os.fstat(2)
    threads = [threading.Thread(target=load, args=("tests/fixtures/models/sine_float.tflite",)) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # the second begins and ends after the first
    for thread in threads:
        thread.join(60)
    after = os.fstat(2)
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)


def test_a_session_keeps_what_no_other_run_sees() -> None:
    wake = load("tests/fixtures/models/hey_mycroft_int8.tflite")
    name, output = wake.inputs[0].name, wake.outputs[0].name
    noise = np.random.default_rng(0).integers(-128, 128, (60, *wake.inputs[0].shape), np.int8)

    def answers(session: LoadedModel, tensors: np.ndarray[Any, Any]) -> list[int]:
        return [int(session.infer({name: tensor})[output][0, 0]) for tensor in tensors]

    whole = answers(wake.session(), noise)
    assert len(set(whole)) > 1
    one, two = wake.session(), wake.session()
    apart = [(answers(one, noise[i : i + 1]), answers(two, noise[:1]), answers(wake, noise[:1])) for i in range(len(noise))]
    assert [first[0] for first, _, _ in apart] == whole
    assert {alone[0] for _, _, alone in apart} == {whole[0]}
    with pytest.raises(ArgumentError):
        one.infer({name: noise})
    one.close()
