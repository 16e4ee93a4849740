"""Batches that are not along the first dimension of everything: found, shown to be right, and only then used."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.runtimes.axes import Axes, alike, declared_axes
from edge_mcp.engine.host.runtimes.base import Array, RuntimeOptions, Value
from edge_mcp.engine.host.runtimes.onnx import OnnxRuntime
from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.host.warm_up import warm_up
from edge_mcp.engine.messages import Item, ModelSpec, TensorSpec
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.sections import ModelSection, Scheduling, ToolSection
from edge_mcp.tools.arguments import input_schema
from tests.onnx_files import FLOAT, INT64, UINT8, graph, model, node, tensor, value
from tests.processes import ROOT

SILERO = ROOT / "models/speech-detector/silero_vad_16k_fp16w.onnx"
SILERO_AXES = Axes({"input": 0, "state": 1}, {"output": 0, "stateN": 1})
WINDOW = 576

Tensors = dict[str, Array]


def serve(path: Path, limit: int = 0) -> ServedModel:
    manifest = Manifest(
        ModelSection("odd", "1.0.0", path.name), ToolSection("odd"), scheduling=Scheduling(max_batch_size=limit)
    )
    return ServedModel.load(ModelSpec("odd", str(path.parent), manifest, input_schema(manifest, describe(path).signature)))


def sent(tensors: Tensors) -> Item:
    named = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
    return Item(
        json.dumps(
            {
                name: {
                    "dtype": named[array.dtype],
                    "shape": list(array.shape),
                    "data": base64.b64encode(array.tobytes()).decode(),
                }
                for name, array in tensors.items()
            }
        ).encode()
    )


def run(served: ServedModel, *calls: Tensors) -> list[Tensors]:
    """What each call answers; they come as one batch."""
    answers = []
    for outcome in served.run([sent(call) for call in calls], lambda stage: None)[0]:
        assert not outcome.error
        outputs = json.loads(outcome.structured)["outputs"]
        answers.append(
            {
                name: np.frombuffer(base64.b64decode(one["data"]), np.float32).reshape(one["shape"])
                for name, one in outputs.items()
            }
        )
    return answers


class Counted:
    """The sizes of one input in each run of a model."""

    def __init__(self, served: ServedModel, name: str) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self._name = name
        self._infer = served._model.infer
        served._model.infer = self.infer  # type: ignore[method-assign]

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        self.sizes.append(tensors[self._name].shape)
        return self._infer(tensors)


def windows(seed: int, rows: int = 1, rate: int = 16000, window: int = WINDOW) -> Tensors:
    """What Silero VAD takes: sound, what it remembers, and the rate."""
    random = np.random.default_rng(seed)
    return {
        "input": random.normal(0, 0.2, (rows, window)).astype(np.float32),
        "state": random.normal(0, 0.5, (2, rows, 128)).astype(np.float32),
        "sr": np.array(rate, np.int64),
    }


def test_what_the_file_names_is_found() -> None:
    assert list(OnnxRuntime().load(SILERO, RuntimeOptions()).batch_axes) == [SILERO_AXES]


def test_calls_of_a_recurrent_model_run_together_and_answer_as_alone() -> None:
    served = serve(SILERO)
    calls = [windows(seed, rows) for seed, rows in enumerate((1, 1, 3, 1, 2))]
    (first,) = run(served, calls[0])  # shows that rows are apart: no size could be guessed before
    counted = Counted(served, "state")
    together = run(served, *calls)
    assert counted.sizes == [(2, 8, 128)]
    assert all((together[0][name] == first[name]).all() for name in first)
    for call, answer in zip(calls, together, strict=True):
        (alone,) = run(served, call)
        assert all(answer[name].shape == alone[name].shape for name in alone)
        assert max(float(np.abs(answer[name] - alone[name]).max()) for name in alone) <= 1e-6


def test_only_calls_that_share_what_has_no_batch_run_together() -> None:
    served = serve(SILERO)
    run(served, windows(0))
    counted = Counted(served, "input")
    calls = [windows(1), windows(2, rate=8000), windows(3), windows(4, window=512), windows(5, rate=8000)]
    answers = run(served, *calls)
    assert sorted(counted.sizes) == [(1, 512), (2, WINDOW), (2, WINDOW)]
    assert all((answers[index]["output"] == run(served, call)[0]["output"]).all() for index, call in enumerate(calls))


def test_a_call_whose_inputs_differ_in_rows_fails_alone() -> None:
    served = serve(SILERO)
    run(served, windows(0))
    torn = {**windows(1, 2), "state": windows(1)["state"]}
    outcomes = served.run([sent(windows(2)), sent(torn), sent(windows(3))], lambda stage: None)[0]
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]


def test_a_first_call_that_fails_decides_nothing() -> None:
    served = serve(SILERO)
    assert served.run([sent(windows(0, window=3))], lambda stage: None)[0][0].error
    run(served, windows(1))
    counted = Counted(served, "input")
    run(served, windows(2), windows(3))
    assert counted.sizes == [(2, WINDOW)]


def test_many_rows_run_in_chunks() -> None:
    served = serve(SILERO, 4)
    call = windows(1, 9)
    run(served, windows(0))
    counted = Counted(served, "state")
    (answer,) = run(served, call)
    assert counted.sizes == [(2, 4, 128), (2, 4, 128), (2, 1, 128)]
    (first,) = run(
        served, {name: array[:1] if name == "input" else array[:, :1] if array.ndim else array for name, array in call.items()}
    )
    assert np.abs(answer["stateN"][:, :1] - first["stateN"]).max() <= 1e-6


def test_the_pace_is_that_of_real_sizes() -> None:
    served = serve(SILERO)
    assert served.measure() == {}  # nobody knows yet how long a window is
    run(served, windows(0))
    counted = Counted(served, "state")
    assert list(served.measure()) == [1, 2, 4, 8, 16, 32]
    assert {(2, size, 128) for size in (1, 2, 4, 8, 16, 32)} == set(counted.sizes)


def odd(folder: Path, op: str, shapes: Sequence[Any], **attributes: Any) -> Path:
    """y = op(a, b)"""
    path = folder / "odd.onnx"
    inputs = [value("a", FLOAT, shapes[0]), value("b", FLOAT, shapes[1])]
    path.write_bytes(model(graph([node(op, ["a", "b"], ["y"], **attributes)], inputs, [value("y", FLOAT, shapes[2])])))
    return path


def two(seed: int, *shapes: tuple[int, ...]) -> Tensors:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in zip("ab", shapes, strict=True)}


def test_weights_that_come_with_the_call_are_shared(tmp_path: Path) -> None:
    served = serve(odd(tmp_path, "MatMul", [("N", 3), (3, 2), ("N", 2)]))
    one, other = two(0, (2, 3), (3, 2)), two(1, (1, 3), (3, 2))
    counted = Counted(served, "a")
    run(served, one, {**other, "b": one["b"]}, other)
    assert counted.sizes == [(3, 3), (1, 3)]


def test_a_row_that_sees_the_others_runs_alone(tmp_path: Path) -> None:
    """What the file says is wrong."""
    nodes = [node("Softmax", ["x"], ["p"], axis=0), node("Transpose", ["p"], ["y"], perm=[1, 0])]
    path = tmp_path / "odd.onnx"
    path.write_bytes(model(graph(nodes, [value("x", FLOAT, ("N", 2))], [value("y", FLOAT, (2, "N"))])))
    loaded = OnnxRuntime().load(path, RuntimeOptions())
    assert list(loaded.batch_axes) == [Axes({"x": 0}, {"y": 1})]
    served = serve(path)
    counted = Counted(served, "x")
    for rows in (1, 2):
        run(served, *({"x": np.full((rows, 2), number, np.float32)} for number in range(3)))
    assert counted.sizes == [(1, 2)] * 3 + [(2, 2)] * 3


def one_in_one_out(folder: Path, *nodes: bytes, constants: Sequence[bytes] = ()) -> Path:
    """Rows of two, which stay where they are."""
    path = folder / "odd.onnx"
    main = graph(nodes, [value("x", FLOAT, ("N", 2))], [value("y", FLOAT, ("N", 2))], constants)
    path.write_bytes(model(main))
    return path


@pytest.mark.parametrize("reverse", [0, 1])
def test_a_row_that_sees_only_those_on_one_side_runs_alone(tmp_path: Path, reverse: int) -> None:
    zero = tensor("zero", np.zeros(1, np.int64).reshape(()))
    served = serve(one_in_one_out(tmp_path, node("CumSum", ["x", "zero"], ["y"], reverse=reverse), constants=[zero]))
    calls: list[Tensors] = [{"x": np.full((1, 2), number, np.float32)} for number in range(3)]
    assert [answer["y"].tolist() for answer in run(served, *calls)] == [[[number, number]] for number in range(3)]


@pytest.mark.parametrize("constant", [np.inf, np.nan])
def test_what_is_no_number_shows_nothing(tmp_path: Path, constant: float) -> None:
    """Rows that mix, next to what hides it: no difference is larger than infinity."""
    hidden = tensor("hidden", np.array([[0, constant]], np.float32))
    nodes = [node("Softmax", ["x"], ["p"], axis=0), node("Add", ["p", "hidden"], ["y"])]
    served = serve(one_in_one_out(tmp_path, *nodes, constants=[hidden]))
    calls: list[Tensors] = [{"x": np.full((1, 2), number, np.float32)} for number in range(3)]
    assert [answer["y"][0, 0] for answer in run(served, *calls)] == [1, 1, 1]


def test_rows_of_bytes_that_mix_and_are_rounded_run_alone(tmp_path: Path) -> None:
    """Of zeros and ones an int8 network tells nothing."""
    path = tmp_path / "odd.onnx"
    nodes = [
        node("Cast", ["x"], ["f"], to=FLOAT),
        node("ReduceMax", ["f", "rows"], ["most"], keepdims=1),
        node("Add", ["f", "most"], ["sum"]),
        node("Mul", ["sum", "step"], ["q"]),
        node("Floor", ["q"], ["y"]),
    ]
    constants = [tensor("step", np.array([1 / 16], np.float32)), tensor("rows", np.zeros(1, np.int64))]
    main = graph(nodes, [value("x", UINT8, ("N", 2))], [value("y", FLOAT, ("N", 2))], constants)
    path.write_bytes(model(main))
    loaded = OnnxRuntime().load(path, RuntimeOptions())
    assert warm_up(loaded, loaded.batch_axes).axes is None


def test_rows_may_come_out_along_another_dimension(tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    main = graph([node("Transpose", ["x"], ["y"], perm=[1, 0])], [value("x", FLOAT, ("N", 2))], [value("y", FLOAT, (2, "N"))])
    path.write_bytes(model(main))
    served = serve(path)
    counted = Counted(served, "x")
    calls = [{"x": np.array([[seed, 1]], np.float32)} for seed in range(3)]
    assert [answer["y"].tolist() for answer in run(served, *calls)] == [[[0], [1]], [[1], [1]], [[2], [1]]]
    assert counted.sizes == [(3, 2)]


def test_a_scalar_that_says_how_many_is_no_batch(tmp_path: Path) -> None:
    """The rows that come out are not those that went in."""
    path = tmp_path / "odd.onnx"
    nodes = [node("Unsqueeze", ["k", "zero"], ["to"]), node("Slice", ["x", "zero", "to", "zero"], ["y"])]
    inputs = [value("x", FLOAT, ("N", 2)), value("k", INT64, ())]
    main = graph(nodes, inputs, [value("y", FLOAT, ("N", 2))], [tensor("zero", np.zeros(1, np.int64))])
    path.write_bytes(model(main))
    served = serve(path)
    calls: list[Tensors] = [{"x": np.full((3, 2), seed, np.float32), "k": np.array(1, np.int64)} for seed in range(2)]
    run(served, calls[0])
    assert [answer["y"].tolist() for answer in run(served, *calls)] == [[[0, 0]], [[1, 1]]]


def spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, "FP32", shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "found"),
    [
        ([(-1, 4)], [(-1, 2)], [({"i0": 0}, {"o0": 0})]),
        ([(-1, 4), (2, -1, 8), ()], [(-1, 1), (2, -1, 8)], [({"i0": 0, "i1": 1}, {"o0": 0, "o1": 1})]),
        ([(-1, -1)], [(-1, 2)], [({"i0": 0}, {"o0": 0})]),
        ([(-1, 4)], [(1, 2)], []),
        ([(-1, 4)], [(1, 2), (-1, 2)], []),
        ([(1, -1)], [(1, -1)], []),  # time, as likely as not
        ([(1, 4)], [(1, 2)], []),
        ([(-1, 4), (-1, -1)], [(2, -1)], []),
        ([], [(-1, 2)], []),
    ],
)
def test_without_names_it_is_what_is_of_any_size(inputs: Any, outputs: Any, found: Any) -> None:
    ins, outs = (
        [spec(f"{kind}{index}", *shape) for index, shape in enumerate(of)] for kind, of in (("i", inputs), ("o", outputs))
    )
    assert declared_axes(ins, outs, alike(ins), alike(outs)) == [Axes(*one) for one in found]


def test_several_names_are_several_ways() -> None:
    ins, outs = [spec("q", -1, 4), spec("k", -1, 4)], [spec("y", -1, -1)]
    named = declared_axes(ins, outs, {"q": ["N", ""], "k": ["M", ""]}, {"y": ["N", "M"]})
    assert named == [Axes({"q": 0}, {"y": 0}), Axes({"k": 0}, {"y": 1}), Axes({"q": 0, "k": 0}, {"y": 0})]
