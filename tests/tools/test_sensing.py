"""Sensors in arguments: what is found there, and what is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.errors import ArgumentError
from edge_mcp.protocol.codec import Arguments
from edge_mcp.repository.inputs import ImageInput, TextInput
from edge_mcp.sensors.access import SensorAccess
from edge_mcp.sensors.capture import Sensors
from edge_mcp.sensors.settings import sensors_of
from edge_mcp.tools.sensing import MAX_ARGUMENTS, Sensing
from tests.processes import ROOT

IMAGE = ImageInput((1, 1))
CAT = ROOT / "tests/fixtures/chelsea.png"


def sensing(*settings: str) -> Sensing:
    access = SensorAccess(Sensors(sensors_of(settings)), "never")
    found = Sensing.of(access, "look", IMAGE)
    assert found is not None
    return found


def context() -> Any:
    class Nobody:
        class peer:
            address = "here"
            principal = ""

    return Nobody


async def attached(found: Sensing, arguments: Any) -> dict[str, bytes]:
    encoded = arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()
    return await found.attached(Arguments(encoded), context())


def test_the_schema_offers_what_fits() -> None:
    schema = {"type": "object", "properties": {"image": {"type": "string", "description": "The picture."}, "x": {}}}
    found = sensing("door=camera:/dev/video0", "mic=microphone:", "any=command:x")
    described = found.described(schema)
    assert described["properties"]["image"]["description"] == (
        "The picture. Or a sensor of this device, read now: sensor://door, sensor://any."
    )
    assert "sensor" not in json.dumps(schema)
    assert sensing("mic=microphone:").described(schema) is schema
    many = sensing(*(f"s{number}=file:/x.png" for number in range(30))).described(schema)
    assert many["properties"]["image"]["description"].endswith("sensor://s9, ….")


def test_only_pictures_and_sounds_have_sensors() -> None:
    access = SensorAccess(Sensors(sensors_of(["a=file:/x"])))
    assert Sensing.of(access, "look", TextInput("v")) is None
    assert Sensing.of(None, "look", IMAGE) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"image": "sensor://door"},
        b'{"image":"sensor:\\/\\/door"}',
        b'{"image":"\\u0073ensor://door", "threshold": 0.5, "other": [1, {"a": "b"}]}',
        b'{"image":"AAAA", "image":"sensor://door"}',
    ],
)
async def test_a_sensor_is_found_however_it_is_written(arguments: Any) -> None:
    assert await attached(sensing(f"door=file:{CAT}"), arguments) == {"image": CAT.read_bytes()}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"image": ""},
        {"image": "AAAA"},
        {"image": "file:///sensor://door"},
        {"image": " sensor://door"},
        {"image": 5},
        {"image": ["sensor://door"]},
        {"images": "sensor://door"},
        {"image": "sensor://door", "x": "y" * MAX_ARGUMENTS},
        b"",
        b"[]",
        b"{",
        b'{"image":"sensor://door"',
        b'{"image":"\xff"}',
        b"[" * 60000,
    ],
)
async def test_what_names_no_sensor_is_left_to_the_engine(arguments: Any) -> None:
    assert await attached(sensing(f"door=file:{CAT}"), arguments) == {}


@pytest.mark.parametrize(
    "uri",
    [
        "sensor://",
        "sensor:///etc/passwd",
        "sensor://file:/etc/passwd",
        "sensor://command:id",
        "sensor://../door",
        "sensor://door/../door",
        "sensor://door%00",
        "sensor://door\u0000",
        "sensor:door",
        "Sensor://door",
        "sensor://" + "x" * 50_000,
    ],
)
async def test_no_argument_smuggles_in_a_source_of_its_own(uri: str) -> None:
    with pytest.raises(ArgumentError, match="there is no sensor") as raised:
        await attached(sensing(f"door=file:{CAT}"), {"image": uri})
    assert "sensor://door" in str(raised.value)
    assert len(str(raised.value)) < 600 and "\n" not in str(raised.value)


async def test_a_sound_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"RIFF1234WAVEfmt ")
    found = sensing("mic=microphone:", f"file=file:{tmp_path}/x", "door=camera:/dev/video0")
    for uri, gives in (("sensor://mic", "audio"), ("sensor://file", "audio/wav")):
        with pytest.raises(ArgumentError, match=f"{uri} gives {gives}, and the argument image takes a picture") as raised:
            await attached(found, {"image": uri})
        assert "Sensors for it: sensor://file, sensor://door" in str(raised.value)


def test_a_recording_has_a_length_that_is_known_before() -> None:
    found = sensing("mic=microphone:?seconds=30", "door=camera:/x")
    assert [found.seconds(Arguments(b'{"image": "sensor://%s"}' % name)) for name in (b"mic", b"door", b"no")] == [30, 0, 0]
