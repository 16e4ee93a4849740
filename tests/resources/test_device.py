"""Model cards and the device's status: told without loading anything."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_mcp import Server
from edge_mcp.engine.status import EngineStatus, LoadedModel
from edge_mcp.measurements import Measurements
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import scan
from edge_mcp.resources.device import STATUS, TEMPLATE, DeviceResources
from tests.processes import ROOT, serving
from tests.talk import LEGACY, talking


class Engine:
    pid: int | None = None
    loaded: frozenset[str] = frozenset()

    def status(self) -> list[EngineStatus]:
        models = [LoadedModel(name, name, "1.0.0", 3.5, 0.0, False) for name in self.loaded]
        return [EngineStatus(self.pid, None, 0, models), EngineStatus(None, "other", 0, [])]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def measured() -> Measurements:
    return Measurements()


@pytest.fixture
def device(engine: Engine, measured: Measurements, tmp_path: Path) -> DeviceResources:
    store = scan([ROOT / "models", ROOT / "tests/fixtures/models"])
    times = iter([100.0, 161.4])
    return DeviceResources(store, engine, Signatures(tmp_path), measured, lambda: next(times))


def held(device: DeviceResources, uri: str) -> dict[str, Any]:
    text = device.text(uri)
    assert text is not None
    value: dict[str, Any] = msgspec.json.decode(text)
    return value


async def test_every_model_has_a_card_that_can_be_read(device: DeviceResources) -> None:
    uris = [resource.uri for resource in await device.resources()]
    assert uris[0] == STATUS
    assert len(uris) > 5
    for uri in uris[1:]:
        card = held(device, uri)
        places = (ROOT / "models" / card["name"], ROOT / "tests/fixtures/models")
        assert any((place / card["file"]).is_file() for place in places)
        assert card["size_bytes"] > 0
        assert card["inference_ms"] is card["load_ms"] is card["signature"] is None
    detector = held(device, "model://object-detector")
    assert detector["license"] == "Apache-2.0"
    assert detector["input"]["kind"] == "image"
    assert detector["output"] == {"decoder": "ssd", "threshold": 0.4, "max_results": 20}
    assert (detector["tool"], detector["format"]) == ("detect_objects", "onnx")


@pytest.mark.parametrize("uri", ["model://", "model://none", "model://../x", "device://", "device://status/", "", "x"])
async def test_what_is_not_there_is_none(device: DeviceResources, uri: str) -> None:
    assert device.text(uri) is None


def test_a_card_shows_what_was_measured(device: DeviceResources, measured: Measurements) -> None:
    measured.ran("object-detector", 10, 0.0123456)
    measured.loaded("object-detector", 0.5, 14.32)
    card = held(device, "model://object-detector")
    assert (card["inference_ms"], card["load_ms"], card["memory_mb"]) == (12.346, 500, 14.3)


def test_the_status_tells_of_the_engine(device: DeviceResources, engine: Engine, measured: Measurements) -> None:
    measured.called(failed=True)
    engine.loaded, engine.pid = frozenset({"face-detector"}), os.getpid()
    status = held(device, STATUS)
    assert status["uptime_s"] == 61
    assert status["engine"] == {"running": True, "pid": os.getpid()}
    assert [model["name"] for model in status["models"] if model["loaded"]] == ["face-detector"]
    [shared] = status["engines"]
    assert (shared["pid"], shared["isolated"], shared["running"]) == (os.getpid(), None, 0)
    assert shared["memory_mb"] == pytest.approx(status["memory"]["engine_mb"], rel=0.1)
    assert [(model["name"], model["memory_mb"], model["preloaded"]) for model in shared["models"]] == [
        ("face-detector", 3.5, False)
    ]
    assert status["calls"] == {"answered": 0, "failed": 1}
    assert status["memory"]["server_mb"] == pytest.approx(status["memory"]["engine_mb"], rel=0.1)
    assert set(status) >= {"version", "load", "processors", "cpu_temperature_c"}


async def test_names_of_models_are_completed(device: DeviceResources) -> None:
    assert set(await device.complete(TEMPLATE, "name", "f", {})) == {"face-detector", "file-identifier"}
    assert await device.complete(TEMPLATE, "other", "f", {}) == []
    assert await device.complete("other://{name}", "name", "f", {}) == []


async def test_a_subscriber_hears_that_the_engine_started_and_loaded_a_model() -> None:
    mine = Server(models=ROOT / "models")
    async with talking(mine.connect, LEGACY) as talk:
        await talk.ask("resources/subscribe", uri=STATUS)
        before = msgspec.json.decode((await talk.ask("resources/read", uri=STATUS))["contents"][0]["text"])
        assert before["engine"] == {"running": False, "pid": None}
        assert "structuredContent" in await talk.call("detect_language", text="Wo ist der Bahnhof?")
        assert await talk.notified("notifications/resources/updated") == {"uri": STATUS}
        after = msgspec.json.decode((await talk.ask("resources/read", uri=STATUS))["contents"][0]["text"])
        assert after["engine"]["running"]
        assert [model["tool"] for model in after["models"] if model["loaded"]] == ["detect_language"]
        assert after["calls"] == {"answered": 1, "failed": 0}
        card = msgspec.json.decode((await talk.ask("resources/read", uri="model://language-detector"))["contents"][0]["text"])
        assert card["inference_ms"] > 0
    await mine.close()


async def test_reading_and_completing_start_no_engine() -> None:
    async with serving("--stdio") as served:
        for uri in (STATUS, "model://object-detector"):
            assert (await served.ask("resources/read", uri=uri))["result"]["contents"][0]["mimeType"] == "application/json"
        for name, arguments in [("look_at_scene", {}), ("check_device", {}), ("find_object", {"label": "cat"})]:
            assert (await served.ask("prompts/get", name=name, arguments=arguments))["result"]["messages"]
        argument = {"ref": {"type": "ref/prompt", "name": "find_object"}, "argument": {"name": "label", "value": "c"}}
        assert "Cat" in (await served.ask("completion/complete", **argument))["result"]["completion"]["values"]
        assert served.engine_pid() is None
