"""What every runtime must do, on the same architecture in each format, and on small files written here."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_mcp.engine.host.runtimes.base import DATATYPES, LoadedModel, Runtime, RuntimeOptions
from edge_mcp.engine.host.runtimes.litert import LitertRuntime
from edge_mcp.engine.host.runtimes.onnx import OnnxRuntime
from edge_mcp.errors import ArgumentError, ModelError
from tests import onnx_files, tflite_files

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
    assert mlp.batch_axes


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


KINDS = {
    "FP32": (onnx_files.FLOAT, "float32"),
    "UINT8": (onnx_files.UINT8, "uint8"),
    "INT8": (onnx_files.INT8, "int8"),
    "INT16": (onnx_files.INT16, "int16"),
    "INT32": (onnx_files.INT32, "int32"),
    "INT64": (onnx_files.INT64, "int64"),
    "BYTES": (onnx_files.STRING, "string"),
    "BOOL": (onnx_files.BOOL, "bool"),
}


def picks(folder: Path, suffix: str, datatype: str, shape: tuple[int, ...]) -> LoadedModel:
    """`y` is what `x` has at the places `i` along its first dimension."""
    onnx, lite = KINDS[datatype]
    path = folder / f"picks{suffix}"
    if suffix == ".onnx":
        inputs = [onnx_files.value("x", onnx, shape), onnx_files.value("i", onnx_files.INT32, (2,))]
        node = onnx_files.node("Gather", ["x", "i"], ["y"])
        path.write_bytes(onnx_files.model(onnx_files.graph([node], inputs, [onnx_files.value("y", onnx, (2, *shape[1:]))])))
    else:
        known = [abs(size) for size in shape]
        tensors = [
            tflite_files.Tensor("x", lite, known, shape),
            tflite_files.Tensor("i", "int32", (2,)),
            tflite_files.Tensor("y", lite, (2, *known[1:])),
        ]
        operator = ("GATHER", [0, 1], [2], schema.GatherOptionsT())
        path.write_bytes(tflite_files.model([tflite_files.Graph(tensors, [operator], [0, 1], [2])]))
    return RUNTIMES[suffix]().load(path, RuntimeOptions())


@pytest.mark.parametrize("datatype", KINDS)
def test_every_datatype(tmp_path: Path, suffix: str, datatype: str) -> None:
    model = picks(tmp_path, suffix, datatype, (-1,))
    assert [(spec.name, spec.datatype) for spec in model.inputs] == [("x", datatype), ("i", "INT32")]
    dtype = DATATYPES[datatype]
    x = np.array(["a", "b\0ü", ""] if datatype == "BYTES" else [1, 0, 1], dtype)
    y = model.infer({"x": x, "i": np.array([1, 0], np.int32)})["y"]
    assert y.dtype == dtype
    assert y.tolist() == [x[1], x[0]]


def test_what_is_declared_too_large_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelError, match=r"'x' has shape .* MiB or more. At most 32 dimensions and 256 MiB") as caught:
        picks(tmp_path, suffix, "FP32", (2**15, 2**15))
    assert "\n" not in str(caught.value)


def test_it_says_what_else_it_knows(mlp: LoadedModel) -> None:
    assert all(isinstance(text, str) for entry in mlp.metadata.items() for text in entry)
    assert list(mlp.signatures) == []


def test_a_file_of_the_other_format(tmp_path: Path, suffix: str) -> None:
    other = ".onnx" if suffix == ".tflite" else ".tflite"
    (tmp_path / f"x{suffix}").write_bytes((MODELS / f"mlp_int8{other}").read_bytes())
    with pytest.raises(ModelError, match=f"x{suffix} cannot be loaded: "):
        RUNTIMES[suffix]().load(tmp_path / f"x{suffix}", RuntimeOptions())


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], mlp: LoadedModel) -> None:
    mlp.infer({mlp.inputs[0].name: features(1)})
    assert capfd.readouterr().out == ""
