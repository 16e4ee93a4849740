"""A big batch of tensors, on a real model: a task for who can follow one, and word of how far it is for who cannot."""

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from edge_mcp import Server
from tests.processes import ROOT
from tests.talk import TASKS, Talk, talking

COLUMNS = 490


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    models = tmp_path / "models"
    models.mkdir()
    copy(ROOT / "tests/fixtures/models/mlp_int8.onnx", models / "mlp.onnx")
    server = Server(models=models)
    yield server
    await server.close()


async def batch(talk: Talk, rows: int) -> dict[str, Any]:
    """The arguments of a call with so many rows."""
    tool = next(tool for tool in (await talk.ask("tools/list"))["tools"] if tool["name"] == "mlp")
    (name,) = tool["inputSchema"]["required"]
    kind, size = ("INT8", 1) if "INT8" in tool["inputSchema"]["properties"][name]["description"] else ("FP32", 4)
    return {name: {"dtype": kind, "shape": [rows, COLUMNS], "data": base64.b64encode(bytes(rows * COLUMNS * size)).decode()}}


async def test_a_first_large_call_is_a_task_and_a_small_one_never(server: Server) -> None:
    async with talking(server.connect, capabilities=TASKS) as talk:
        created = await talk.call("mlp", **await batch(talk, 2500))
        assert created["resultType"] == "task"
        until = time.monotonic() + 60
        while (state := await talk.ask("tasks/get", taskId=created["taskId"]))["status"] == "working":
            assert time.monotonic() < until
        assert state["status"] == "completed"
        assert state["statusMessage"].startswith(("running mlp", "loading mlp"))
        (output,) = state["result"]["structuredContent"]["outputs"].values()
        assert output["shape"] == [2500, 12]
        assert (await talk.call("mlp", **await batch(talk, 3)))["resultType"] == "complete"
        # by now it is known that this one is fast
        assert (await talk.call("mlp", **await batch(talk, 2500)))["resultType"] == "complete"


async def test_a_client_without_tasks_waits_and_hears_how_far_it_is(server: Server) -> None:
    async with talking(server.connect) as talk:
        result = await talk.call("mlp", {"progressToken": "p"}, **await batch(talk, 2500))
        assert result["resultType"] == "complete"
        told = [message["params"]["progress"] for message in talk.heard if message.get("method") == "notifications/progress"]
        assert told[:2] == [0, 1]
        assert told == sorted(set(told))
