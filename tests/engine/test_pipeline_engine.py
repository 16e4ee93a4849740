"""A tool of two models as the server sees it: one model, in a real engine process."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.messages import Item, ModelSpec, Ran
from edge_mcp.errors import EngineError
from edge_mcp.repository.manifest import read
from edge_mcp.tools.arguments import input_schema

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "text-reader"
PICTURE = base64.b64encode((ROOT / "tests/fixtures/rendered_text.png").read_bytes()).decode()
CALL = Item(json.dumps({"image": PICTURE}).encode())
LONG = 30  # items: some seconds


def reader() -> ModelSpec:
    manifest = read(FOLDER)
    return ModelSpec("text-reader", str(FOLDER), manifest, input_schema(manifest, None))


@pytest.fixture
async def engine() -> AsyncIterator[EngineClient]:
    client = EngineClient(lanes=2)
    yield client
    await client.close()


def first_line(ran: Ran) -> str:
    (outcome,) = ran.outcomes
    assert not outcome.error
    return str(json.loads(outcome.structured)["lines"][0]["text"])


async def test_a_killed_engine_costs_the_call_that_it_had_and_the_next_works(engine: EngineClient) -> None:
    await engine.load(reader())
    told = asyncio.Event()
    task = asyncio.create_task(engine.run(reader(), [CALL] * LONG, lambda done, total: told.set()))
    async with asyncio.timeout(30):
        await told.wait()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"killed from outside \(SIGKILL\) while (decoding|running|encoding)"):
        await task
    assert first_line(await engine.run(reader(), [CALL])) == "Raspberry Pi 5"


async def test_two_lanes_read_at_once(engine: EngineClient) -> None:
    ran = await asyncio.gather(*(engine.run(reader(), [CALL]) for _ in range(4)))
    assert [first_line(one) for one in ran] == ["Raspberry Pi 5"] * 4
