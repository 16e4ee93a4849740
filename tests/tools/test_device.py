"""`device_status`, as a language model gets it."""

from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from edge_mcp import Server
from edge_mcp.load.device import DeviceLoad
from edge_mcp.load.monitor import Monitor
from edge_mcp.resources.load import LoadResources
from edge_mcp.tools.device import DeviceStatus, in_words
from tests.load.test_monitor import BOARDS, Clock
from tests.processes import ROOT
from tests.talk import LEGACY, MODERN, talking

REST: dict[str, Any] = {"models": [], "calls": {"answered": 0, "failed": 0}}


def told(board: str) -> dict[str, Any]:
    clock = Clock()
    load = LoadResources(DeviceLoad(4, Monitor(BOARDS / board, clock), clock), clock).told()
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({**load, **REST}))
    return found


@pytest.mark.parametrize("board", [path.name for path in BOARDS.iterdir() if path.is_dir()])
def test_every_board_is_told_by_the_schema_and_in_words(board: str) -> None:
    found = told(board)
    schema = DeviceStatus.definition.outputSchema
    assert schema is not None
    Draft202012Validator(schema).validate(found)
    assert in_words(found).startswith(f"The device is {found['state']}")


def test_a_hot_device_says_why_and_what_to_do() -> None:
    words = in_words(told("pi-4") | {"running": 1, "queued": 3, "models": [{"name": "net", "memory_mb": 3}]})
    assert "The device is HOT: " in words
    assert "the supply voltage is too low" in words
    assert "call one tool after the other" in words
    assert "1 batch runs (at most 2 at once), 3 calls wait." in words
    assert "Models in memory: net." in words


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_it_is_called_as_any_tool_and_loads_nothing(version: str) -> None:
    mine = Server(models=ROOT / "models")
    async with talking(mine.connect, version) as talk:
        answer = await talk.call("device_status")
        assert answer["structuredContent"]["models"] == []
        assert answer["content"][0]["text"].startswith("The device is ")
        failed = await talk.call("device_status", verbose=True)
        assert failed["isError"]
        assert "takes no arguments" in failed["content"][0]["text"]
        again = await talk.call("device_status")
        assert again["structuredContent"]["calls"] == {"answered": 1, "failed": 1}
    await mine.close()


async def test_without_models_there_is_none() -> None:
    async with talking(Server("test", models=False).connect) as talk:
        assert (await talk.ask("tools/list"))["tools"] == []
