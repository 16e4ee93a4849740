"""Loading and unloading a thousand times grows nothing, and does no harm to what runs meanwhile."""

import asyncio
import base64
import json
from pathlib import Path

import numpy as np
import pytest

from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.memory import fields
from edge_mcp.engine.messages import Item, ModelSpec, TensorSpec
from edge_mcp.repository.store import derived
from edge_mcp.tools.arguments import input_schema

MODELS = Path(__file__).parents[1] / "fixtures/models"
CYCLES = 1000
GROWTH_MB = 3


async def tensor_model(engine: EngineClient, file: str) -> tuple[ModelSpec, Item]:
    """A bare file, and a call of it with zeros."""
    manifest = derived(MODELS / file)
    described = await engine.describe(str(MODELS / file))
    spec = ModelSpec(file, str(MODELS), manifest, input_schema(manifest, described.signature))
    return spec, Item(json.dumps({one.name: zeros(one) for one in described.signature.inputs}).encode())


def zeros(spec: TensorSpec) -> dict[str, object]:
    kinds = {"FP32": np.float32, "INT8": np.int8}
    array = np.zeros([max(1, size) for size in spec.shape], kinds[spec.datatype])
    return {"dtype": spec.datatype, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def own_mb(engine: EngineClient) -> float:
    """What the engine allocated: what it maps of files is shared with whatever else runs on this machine."""
    return fields(Path(f"/proc/{engine.pid}/status"))["RssAnon"] / 1024


@pytest.mark.parametrize("file", ["mlp_int8.onnx", "sine_float.tflite"])
async def test_a_thousand_loads_and_unloads_grow_nothing(file: str) -> None:
    engine = EngineClient(lanes=2)
    try:
        spec, call = await tensor_model(engine, file)
        after: dict[int, float] = {}
        for cycle in range(1, CYCLES + 1):
            await engine.load(spec)
            if cycle % 10 == 0:
                [outcome] = (await engine.run(spec, [call])).outcomes
                assert not outcome.error
            await engine.unload(spec.key)
            if cycle in (50, CYCLES):
                after[cycle] = own_mb(engine)
        assert after[CYCLES] - after[50] < GROWTH_MB
        assert engine.loaded == frozenset()
    finally:
        await engine.close()


async def test_a_model_that_is_dropped_again_and_again_under_its_calls_costs_none_of_them() -> None:
    engine = EngineClient(lanes=2)
    try:
        models = [await tensor_model(engine, file) for file in ("mlp_int8.onnx", "sine_float.tflite")]
        answered = asyncio.Semaphore(0)

        async def calls(spec: ModelSpec, call: Item) -> None:
            for _ in range(100):
                [outcome] = (await engine.run(spec, [call])).outcomes
                assert not outcome.error
                answered.release()

        async def drops() -> None:
            for _ in range(100):
                for _ in range(6):
                    await answered.acquire()
                for spec, _ in models:
                    await engine.drop(spec.key)

        await asyncio.gather(drops(), *(calls(*one) for one in models for _ in range(3)))
    finally:
        await engine.close()
