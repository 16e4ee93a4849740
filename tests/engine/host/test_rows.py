"""Rows run together only where that is right: the file has to leave it open, and a first run has to show it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.parts import load_file
from edge_mcp.engine.host.runtimes.axes import first_axes
from edge_mcp.engine.host.runtimes.base import Array, LoadedModel, RuntimeOptions, Value
from edge_mcp.engine.host.runtimes.onnx import OnnxRuntime
from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.host.warm_up import warm_up
from edge_mcp.engine.messages import Item, ModelSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.sections import ModelSection, Scheduling, ToolSection
from edge_mcp.tools.arguments import input_schema
from tests.onnx_files import FLOAT, INT64, Graph, graph, model, node, tensor, value
from tests.processes import ROOT


def double(folder: Path, outputs: Any = ("N", 2), inputs: Any = ("N", 2)) -> Path:
    """y = x + x, whatever is declared of the shapes."""
    path = folder / "odd.onnx"
    main = graph([node("Add", ["x", "x"], ["y"])], [value("x", FLOAT, inputs)], [value("y", FLOAT, outputs)])
    path.write_bytes(model(main))
    return path


def doubled_or_squeezed(folder: Path) -> Path:
    """As above, but neither the file nor ONNX Runtime knows the shape of y."""
    branches: dict[str, Any] = {
        "then_branch": Graph(graph([node("Squeeze", ["x"], ["a"])], [], [value("a", FLOAT)])),
        "else_branch": Graph(graph([node("Add", ["x", "x"], ["b"])], [], [value("b", FLOAT)])),
    }
    nodes = [node("ReduceSum", ["x"], ["s"], keepdims=0), node("IsNaN", ["s"], ["c"]), node("If", ["c"], ["y"], **branches)]
    path = folder / "odd.onnx"
    path.write_bytes(model(graph(nodes, [value("x", FLOAT, ("N", 2))], [value("y", FLOAT)])))
    return path


def softmax_over_rows(folder: Path) -> Path:
    path = folder / "odd.onnx"
    shape = ("N", 2)
    path.write_bytes(
        model(graph([node("Softmax", ["x"], ["y"], axis=0)], [value("x", FLOAT, shape)], [value("y", FLOAT, shape)]))
    )
    return path


class Counted:
    """How many rows each run of a model had."""

    def __init__(self, served: ServedModel) -> None:
        self.rows: list[int] = []
        self._infer = served._model.infer
        served._model.infer = self.infer  # type: ignore[method-assign]

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        self.rows.append(len(tensors["x"]))
        return self._infer(tensors)


def serve(path: Path, limit: int = 0) -> ServedModel:
    manifest = Manifest(
        ModelSection("odd", "1.0.0", path.name), ToolSection("odd"), scheduling=Scheduling(max_batch_size=limit)
    )
    return ServedModel.load(ModelSpec("odd", str(path.parent), manifest, input_schema(manifest, describe(path).signature)))


def run(served: ServedModel, *calls: Any) -> list[Any]:
    outcomes = served.run([Item(json.dumps({"x": x}).encode()) for x in calls], lambda stage: None)[0]
    assert not any(outcome.error for outcome in outcomes)
    return [json.loads(outcome.structured)["outputs"]["y"]["data"] for outcome in outcomes]


def rows(served: ServedModel, *sizes: int) -> list[int]:
    counted = Counted(served)
    calls = [[[float(size), index] for index in range(size)] for size in sizes]
    assert run(served, *calls) == [[[2 * one for one in row] for row in call] for call in calls]
    return counted.rows


def test_calls_run_together(tmp_path: Path) -> None:
    assert rows(serve(double(tmp_path)), 1, 2, 3) == [6]


def test_a_bound_parts_them(tmp_path: Path) -> None:
    assert rows(serve(double(tmp_path), 4), 1, 2, 3, 1, 9, 1) == [3, 4, 4, 4, 1, 1]


def test_a_bound_declares_what_the_file_leaves_open(tmp_path: Path) -> None:
    assert rows(serve(doubled_or_squeezed(tmp_path), 8), 1, 2) == [3]
    assert rows(serve(doubled_or_squeezed(tmp_path)), 1, 2) == [1, 2]


def test_a_bound_never_resizes_a_fixed_size(tmp_path: Path) -> None:
    assert rows(serve(double(tmp_path, (1, 2), (1, 2)), 8), 1, 1) == [1, 1]
    faces = OnnxRuntime().load(double(tmp_path, (1, 2), ("N", 2)), RuntimeOptions())
    assert not faces.batch_axes


def test_rows_that_mix_never_run_together(tmp_path: Path) -> None:
    served = serve(softmax_over_rows(tmp_path))
    one, two = [[0.0, 1.0]], [[5.0, 5.0], [5.0, 5.0]]
    assert run(served, one, two) == [[[1, 1]], [[0.5, 0.5], [0.5, 0.5]]]


@pytest.mark.parametrize(
    ("file", "independent"),
    [
        ("models/image-classifier/efficientnet_lite0_int8_qdq.onnx", True),
        ("models/language-detector/langid97_w8.onnx", True),
        ("models/file-identifier/magika_w8.onnx", True),
        ("tests/fixtures/models/mlp_int8.onnx", True),
        ("tests/fixtures/models/mlp_int8.tflite", True),
        ("tests/fixtures/models/dscnn_int8.onnx", True),
        ("tests/fixtures/models/dscnn_int8.tflite", True),
        ("tests/fixtures/models/sine_float.tflite", True),
    ],
)
def test_real_networks_keep_their_rows_apart(file: str, independent: bool) -> None:
    path = ROOT / file
    loaded = load_file(path, RuntimeOptions())
    assert loaded.batch_axes
    assert (warm_up(loaded, loaded.batch_axes).axes is not None) is independent


def test_quantizing_while_running_mixes_rows(tmp_path: Path) -> None:
    """The scale is found for the whole batch."""
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    path = tmp_path / "odd.onnx"
    path.write_bytes(model(graph(nodes, [value("x", FLOAT, ("N", 64))], [value("y", FLOAT, ("N", 64))])))
    loaded = OnnxRuntime().load(path, RuntimeOptions())
    assert warm_up(loaded, loaded.batch_axes) == (None, [])


def failing(folder: Path, shape: Any, datatype: int = FLOAT) -> LoadedModel:
    """Reshapes to what no input of its has."""
    path = folder / "odd.onnx"
    shaped = tensor("to", np.array([7, 11], np.int64))
    main = graph([node("Reshape", ["x", "to"], ["y"])], [value("x", datatype, shape)], [value("y", datatype, None)], [shaped])
    path.write_bytes(model(main))
    return OnnxRuntime().load(path, RuntimeOptions())


def test_a_model_that_cannot_run_is_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"odd\.onnx failed"):
        warm_up(failing(tmp_path, (2, 2)), ())


@pytest.mark.parametrize(("shape", "datatype"), [(("N", 2), FLOAT), (None, FLOAT), ((2, 2), INT64)])
def test_a_guess_that_fails_says_nothing(tmp_path: Path, shape: Any, datatype: int) -> None:
    loaded = failing(tmp_path, shape, datatype)
    assert warm_up(loaded, ()) == (None, [])


def test_a_guess_that_fails_leaves_it_open(tmp_path: Path) -> None:
    loaded = failing(tmp_path, ("N", 2))
    way = first_axes(loaded.inputs, loaded.outputs)
    assert warm_up(loaded, [way]) == (None, [way])


def test_open_sizes_never_take_much_memory(tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    shape = ("N", *"abcdefg")
    path.write_bytes(model(graph([node("Relu", ["x"], ["y"])], [value("x", FLOAT, shape)], [value("y", FLOAT, shape)])))
    loaded = OnnxRuntime().load(path, RuntimeOptions())
    assert warm_up(loaded, loaded.batch_axes).axes == first_axes(loaded.inputs, loaded.outputs)
