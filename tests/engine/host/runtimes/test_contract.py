"""What every runtime must do, on the same network in each format."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.runtimes.base import LoadedModel, Runtime, RuntimeOptions
from edge_mcp.engine.host.runtimes.litert import LitertRuntime
from edge_mcp.engine.host.runtimes.onnx import OnnxRuntime
from edge_mcp.errors import ArgumentError, ModelError

MODELS = Path(__file__).parents[3] / "fixtures" / "models"
RUNTIMES: dict[str, Callable[[], Runtime]] = {".onnx": OnnxRuntime, ".tflite": LitertRuntime}


@pytest.fixture(params=RUNTIMES)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mlp(suffix: str) -> LoadedModel:
    """490 features -> 12 classes, int8, dynamic batch."""
    return RUNTIMES[suffix]().load(MODELS / f"mlp_int8{suffix}", RuntimeOptions(threads=2))


def features(rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(rows).random((rows, 490), np.float32)


def test_suffix(suffix: str) -> None:
    assert RUNTIMES[suffix]().suffixes == {suffix}


def test_signature(mlp: LoadedModel) -> None:
    assert [(spec.datatype, spec.shape) for spec in mlp.inputs] == [("FP32", (-1, 490))]
    assert [(spec.datatype, spec.shape) for spec in mlp.outputs] == [("FP32", (-1, 12))]
    assert mlp.dynamic_batch


def test_a_batch_is_its_rows(mlp: LoadedModel) -> None:
    name, output = mlp.inputs[0].name, mlp.outputs[0].name
    batch = features(5)
    together = mlp.infer({name: batch})[output]
    alone = [mlp.infer({name: row[np.newaxis]})[output][0] for row in batch]
    assert np.allclose(together, alone, atol=1e-3)


def test_results_own_their_memory(mlp: LoadedModel) -> None:
    name, output = mlp.inputs[0].name, mlp.outputs[0].name
    first = mlp.infer({name: features(3)})[output]
    kept = first.copy()
    mlp.infer({name: features(8)})
    mlp.infer({name: features(3) + 1})
    assert (first == kept).all()


def test_what_does_not_fit_is_refused(mlp: LoadedModel) -> None:
    name = mlp.inputs[0].name
    good = features(1)
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "inputs are"),
        ({name: good, "other": good}, "inputs are"),
        ({"other": good}, "inputs are"),
        ({name: good.astype(np.float64)}, "is FP32, not FP64"),
        ({name: good.astype(np.complex64)}, "is FP32, not complex64"),
        ({name: good[:, :49]}, "not \\[1, 49\\]"),
        ({name: good[0]}, "not \\[490\\]"),
        ({name: np.zeros((), np.float32)}, "not \\[\\]"),
        ({name: good[np.newaxis]}, "not \\[1, 1, 490\\]"),
    ]
    for tensors, said in refused:
        with pytest.raises(ArgumentError, match=said):
            mlp.infer(tensors)
    assert mlp.infer({name: good})


def test_an_empty_batch_does_no_harm(mlp: LoadedModel) -> None:
    name, output = mlp.inputs[0].name, mlp.outputs[0].name
    try:
        assert mlp.infer({name: features(0)})[output].shape == (0, 12)
    except ArgumentError as error:
        assert "no elements" in str(error)
    assert mlp.infer({name: features(2)})[output].shape == (2, 12)


def test_threads_share_a_model(mlp: LoadedModel) -> None:
    name, output = mlp.inputs[0].name, mlp.outputs[0].name
    batches = [features(rows) for rows in (1, 2, 3, 4)]
    expected = [mlp.infer({name: batch})[output] for batch in batches]
    wrong: list[int] = []

    def lane(index: int) -> None:
        results = [mlp.infer({name: batches[index]})[output] for _ in range(50)]
        wrong.extend(index for result in results if not np.allclose(result, expected[index], atol=1e-4))

    threads = [threading.Thread(target=lane, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None])
def test_broken_files(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"broken{suffix}"
    whole = (MODELS / f"mlp_int8{suffix}").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModelError) as caught:
        RUNTIMES[suffix]().load(path, RuntimeOptions())
    said = str(caught.value)
    assert said.startswith(f"broken{suffix} cannot be loaded: ")
    assert "\n" not in said
    assert str(tmp_path) not in said


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], mlp: LoadedModel) -> None:
    mlp.infer({mlp.inputs[0].name: features(1)})
    assert capfd.readouterr().out == ""
