"""A batch of many rows runs in chunks: the same answer, and word of how far it is."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.channel import Channel
from edge_mcp.engine.host import lane
from edge_mcp.engine.host.batches import CHUNK, Batches
from edge_mcp.engine.host.decoders.raw import RawDecoder
from edge_mcp.engine.host.modalities.tensor import TensorModality
from edge_mcp.engine.host.runtimes.axes import first_axes
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.host.warm_up import Tried
from edge_mcp.engine.messages import Item, Outcome, Progress, TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.store import derived
from tests.processes import ROOT

Load = Callable[[str], ServedModel]


def tensor(array: Any) -> dict[str, Any]:
    return {"dtype": "INT8", "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def run(model: ServedModel, arguments: Mapping[str, Any]) -> tuple[Outcome, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    item = Item(json.dumps(arguments).encode())
    outcomes, _ = model.run([item], lambda stage: None, lambda done, total: told.append((done, total)))
    return outcomes[0], told


class Sum:
    """A model that adds up each row; `outputs` says what it answers instead."""

    def __init__(self, dynamic: bool = True, inputs: int = 1) -> None:
        self.inputs: Sequence[TensorSpec] = [TensorSpec(f"x{index}", "FP32", (-1, 2)) for index in range(inputs)]
        self.outputs: Sequence[TensorSpec] = [TensorSpec("y", "FP32", (-1,))]
        self.metadata: Mapping[str, str] = {}
        self.signatures: Sequence[str] = ()
        self.batch_axes = [first_axes(self.inputs, self.outputs)] if dynamic else []
        self.sizes: list[int] = []

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        self.sizes.append(len(tensors["x0"]))
        return {"y": self.answer(tensors["x0"])}

    def answer(self, rows: Array) -> Array:
        total: Array = rows.sum(axis=1)
        return total

    def close(self) -> None: ...


class Whole(Sum):
    """Its first dimension is no batch after all."""

    def answer(self, rows: Array) -> Array:
        return np.full(3, rows.sum(), np.float32)


class Broken(Sum):
    def answer(self, rows: Array) -> Array:
        if len(self.sizes) > 1:
            raise ModelError("no more")
        return super().answer(rows)


def served(model: Sum) -> ServedModel:
    manifest = derived(ROOT / "sum.onnx")
    modality = TensorModality(TensorInput(), model.inputs, ROOT)
    batches = Batches(model, Tried(next(iter(model.batch_axes), None)))
    schema: dict[str, Any] = {"type": "object", "properties": {spec.name: {} for spec in model.inputs}, "required": []}
    return ServedModel(model, modality, RawDecoder(manifest, model.outputs, ROOT), schema, batches)


def rows(count: int) -> list[list[float]]:
    return [[float(number), 1.0] for number in range(count)]


@pytest.mark.parametrize("count", [CHUNK + 1, CHUNK * 2, CHUNK * 3 - 1])
def test_many_rows_run_in_chunks_and_are_told(count: int) -> None:
    model = Sum()
    outcome, told = run(served(model), {"x0": rows(count)})
    assert json.loads(outcome.structured)["outputs"]["y"]["data"] == [number + 1.0 for number in range(count)]
    assert model.sizes == [CHUNK] * (count // CHUNK) + ([count % CHUNK] if count % CHUNK else [])
    assert [done for done, _ in told] == [min(count, CHUNK * (number + 1)) for number in range(len(model.sizes))]
    assert {total for _, total in told} == {count}


@pytest.mark.parametrize("model", [Sum(), Sum(dynamic=False), Whole(), Sum(inputs=2)])
def test_what_is_no_large_batch_runs_whole(model: Sum) -> None:
    count = CHUNK if model.batch_axes and type(model) is Sum and len(model.inputs) == 1 else CHUNK * 2
    arguments = {"x0": rows(count), "x1": rows(1)} if len(model.inputs) == 2 else {"x0": rows(count)}
    outcome, told = run(served(model), arguments)
    assert not outcome.error
    assert not told
    assert model.sizes[-1] == count
    assert json.loads(outcome.structured)["outputs"]["y"]["shape"] == ([3] if isinstance(model, Whole) else [count])


def test_a_chunk_that_fails_fails_its_item() -> None:
    outcome, told = run(served(Broken()), {"x0": rows(CHUNK * 3)})
    assert "no more" in outcome.error
    assert told == [(CHUNK, CHUNK * 3)]


@pytest.mark.parametrize("file", ["mlp_int8.onnx", "mlp_int8.tflite"])
def test_a_real_model_answers_the_same_in_chunks(served: Load, file: str) -> None:
    model = served(file)
    spec = model._model.inputs[0]
    data = np.random.default_rng(1).integers(-128, 127, (CHUNK * 2 + 3, *spec.shape[1:])).astype(np.int8)
    kind = {"INT8": np.int8, "UINT8": np.uint8, "FP32": np.float32}[spec.datatype]
    arguments = {spec.name: {**tensor(data.astype(kind)), "dtype": spec.datatype}}
    outcome, told = run(model, arguments)
    assert not outcome.error
    assert told[-1] == (CHUNK * 2 + 3, CHUNK * 2 + 3)
    (answer,) = json.loads(outcome.structured)["outputs"].values()
    part, _ = run(model, {spec.name: {**tensor(data[CHUNK:].astype(kind)), "dtype": spec.datatype}})
    (tail,) = json.loads(part.structured)["outputs"].values()
    whole = base64.b64decode(answer["data"])
    assert whole.endswith(base64.b64decode(tail["data"]))
    assert answer["shape"][0] == CHUNK * 2 + 3


def test_the_server_is_told_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder(Channel[Any]):
        def __init__(self) -> None:
            self.sent: list[object] = []

        def send(self, message: object) -> None:
            self.sent.append(message)

    moments = iter([0.0, 0.1, 0.15, 0.25, 0.25, 0.3, 0.5, 0.5])
    monkeypatch.setattr(lane, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    channel = Recorder()
    reporter = lane._Reporter(channel)
    for done in range(1, 6):
        reporter(done, 9)
    assert channel.sent == [Progress(3, 9), Progress(5, 9)]
