"""A model as a tool, with an engine that does as it is told."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.context import Context
from edge_mcp.engine.messages import Described, Item, ModelSpec, Outcome, Ran, Signature, TensorSpec
from edge_mcp.engine.watch import Tell
from edge_mcp.errors import ConnectionClosed
from edge_mcp.measurements import Measurements
from edge_mcp.protocol.codec import Arguments
from edge_mcp.repository.manifest import read
from edge_mcp.repository.store import Entry, derived
from edge_mcp.tools.model_tool import LARGE_BYTES, ModelTool
from edge_mcp.transports.base import Peer
from tests.processes import ROOT


class FakeEngine:
    ready = True

    def is_ready(self, model: ModelSpec) -> bool:
        return self.ready

    async def describe(self, path: str, signature: str = "") -> Described:
        raise NotImplementedError

    async def load(self, model: ModelSpec) -> None:
        self.ready = True

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        return {}

    async def unload(self, key: str) -> None:
        self.ready = False

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        assert tell is not None
        for done in (1, 2, 4):
            tell(done, 4)
        return Ran([Outcome(b"[]", json.dumps({"roots": items[0].roots}).encode())], 0.5)


class Wire:
    def __init__(self, gone: bool = False) -> None:
        self.gone = gone
        self.said: list[tuple[float, float | None, str]] = []

    async def progress(self, done: float, total: float | None, message: str) -> None:
        if self.gone and "of" in message:
            raise ConnectionClosed("gone")
        self.said.append((done, total, message))

    async def log(self, level: Any, data: Any, logger: str) -> None: ...

    async def hang_up(self, retry_ms: int) -> None: ...


async def _nobody(questions: Any) -> Any:
    raise AssertionError


def context(wire: Wire) -> Context:
    return Context(Peer("test", ("/here",)), {}, None, wire, _nobody)


def image_tool(engine: FakeEngine, measured: Measurements) -> ModelTool:
    folder = ROOT / "models/object-detector"
    return ModelTool(Entry(folder, read(folder)), None, engine, measured)


def tensor_tool(engine: FakeEngine, measured: Measurements) -> ModelTool:
    spec = TensorSpec("x", "FP32", (-1, 4))
    return ModelTool(Entry(Path("/m"), derived(Path("/m/mlp.onnx")), bare=True), Signature((spec,), (spec,)), engine, measured)


@pytest.mark.parametrize("gone", [False, True])
async def test_progress_grows_and_never_comes_after_the_answer(gone: bool) -> None:
    engine, wire = FakeEngine(), Wire(gone)
    engine.ready = False
    result = await image_tool(engine, Measurements()).call(Arguments(b"{}"), context(wire))
    assert json.loads(bytes(result.structuredContent)) == {"roots": ["/here"]}
    assert wire.said[:2] == [(0, 2, "loading object-detector"), (1, 2, "running object-detector")]
    assert wire.said[2:] == ([] if gone else [(1.25, 2, "running object-detector: 1 of 4 rows")])


def test_a_call_that_was_fast_so_far_is_no_task() -> None:
    measured = Measurements()
    tool = image_tool(FakeEngine(), measured)
    assert tool.task_use(Arguments(b"x" * 10_000_000)) == "never"
    measured.ran("object-detector", 100, 1.9)
    measured.loaded("object-detector", 9.0)
    assert tool.task_use(Arguments(b"")) == "never"


def test_a_call_that_was_slow_or_has_to_load_long_is_a_task() -> None:
    measured, engine = Measurements(), FakeEngine()
    tool = image_tool(engine, measured)
    measured.ran("object-detector", 100, 0.5)
    measured.loaded("object-detector", 1.6)
    engine.ready = False
    assert tool.task_use(Arguments(b"")) == "optional"
    engine.ready = True
    for _ in range(3):
        measured.ran("object-detector", 100, 2.1)
    assert tool.task_use(Arguments(b"")) == "optional"


def test_a_batch_of_tensors_takes_as_long_as_it_is_large() -> None:
    measured = Measurements()
    tool = tensor_tool(FakeEngine(), measured)
    assert tool.task_use(Arguments(b"x" * LARGE_BYTES)) == "never"
    assert tool.task_use(Arguments(b"x" * (LARGE_BYTES + 1))) == "optional"
    measured.ran("mlp", 1000, 0.001)
    assert tool.task_use(Arguments(b"x" * 1_999_000)) == "never"
    assert tool.task_use(Arguments(b"x" * 2_001_000)) == "optional"
