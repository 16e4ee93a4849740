"""The setting `sensors`: what it may say, and what is told of what it may not."""

from pathlib import Path

import pytest

from edge_mcp.config import load
from edge_mcp.errors import ConfigError
from edge_mcp.sensors.content import mime_type
from edge_mcp.sensors.settings import Sensor, environment_parts, sensor_of, sensors_of

CAMERA = {"width": 0, "height": 0, "skip": 4}
MICROPHONE = {"seconds": 4, "rate": 16000, "channels": 1}


@pytest.mark.parametrize(
    ("setting", "kind", "target", "options"),
    [
        ("a=camera:/dev/video0", "camera", "/dev/video0", CAMERA),
        (
            "a = camera:/dev/video0?width=640&height=480&skip=0",
            "camera",
            "/dev/video0",
            {"width": 640, "height": 480, "skip": 0},
        ),
        ("a=picamera2:", "picamera2", "", {"width": 0, "height": 0}),
        ("a=microphone:", "microphone", "", MICROPHONE),
        ("a=microphone:hw:1,0?seconds=0.5", "microphone", "hw:1,0", {**MICROPHONE, "seconds": 0.5}),
        ("a=microphone:USB%20Audio", "microphone", "USB Audio", MICROPHONE),
        ("a=file:/x/y.png", "file", "/x/y.png", {}),
        ("a=file:///x/a%20b.png", "file", "/x/a b.png", {}),
        ("a=file://localhost/x.png", "file", "/x.png", {}),
        ("a=file:here.png", "file", "here.png", {}),
        ("a=folder:/x", "folder", "/x", {}),
        ("a=command:sh -c 'a?b=c & d' ", "command", "sh -c 'a?b=c & d'", {}),
    ],
)
def test_a_setting_is_a_sensor(setting: str, kind: str, target: str, options: dict[str, float]) -> None:
    assert sensor_of(setting) == Sensor("a", kind, target, options)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("", "cannot be named ''"),
        ("door", "cannot be named 'door'. Use lower-case letters, digits and hyphens. Write NAME"),
        ("Door=file:/x", "cannot be named 'Door'"),
        ("../x=file:/x", "cannot be named '../x'"),
        ("ä=file:/x", "cannot be named 'ä'"),
        ("a" * 65 + "=file:/x", "cannot be named"),
        ("a=camra:/dev/video0", "Did you mean camera:? The kinds are camera, picamera2, microphone, file, folder, command"),
        ("a=http://camera.local/x.jpg", "is of no known kind"),
        ("a=/dev/video0", "is of no known kind"),
        ("a=camera:", "Write camera:/dev/video0"),
        ("a=folder:", "Write folder:/path"),
        ("a=command: ", "Write command:PROGRAM ARGS"),
        ("a=command:sh -c 'x", "No closing quotation. Close the quotes"),
        ("a=camera:/dev/video0?widht=5", "has no option 'widht'. Did you mean width? It has width, height, skip"),
        ("a=camera:/dev/video0?width=0", "width is '0'. Write a whole number from 1 to 10000"),
        ("a=camera:/dev/video0?width=6.5", "width is '6.5'"),
        ("a=camera:/dev/video0?width=\u0661", "width is '\u0661'"),
        ("a=camera:/dev/video0?width=", "width is ''"),
        ("a=camera:/dev/video0?" + "&" * 50, "has no option"),
        ("a=microphone:?seconds=61", "Write a number from 0.1 to 60"),
        ("a=microphone:?seconds=inf", "seconds is 'inf'"),
        ("a=microphone:?rate=44", "from 8000 to 192000"),
    ],
)
def test_what_a_setting_cannot_say_is_told(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sensor_of(setting)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_are_used_once() -> None:
    assert list(sensors_of(["a=file:/x", "b=file:/x"])) == ["a", "b"]
    with pytest.raises(ConfigError, match="two sensors 'a'"):
        sensors_of(["a=file:/x", "a=file:/y"])


def test_what_a_sensor_gives_is_known_where_it_can_be() -> None:
    settings = ["a=camera:/x", "b=microphone:", "c=file:/x.JPG", "d=file:/x.wav", "e=file:/x", "f=folder:/x", "g=command:x"]
    assert [sensor.media for sensor in sensors_of(settings).values()] == ["image", "audio", "image", "audio", "", "", ""]


def test_settings_come_from_a_table_the_environment_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "edge-mcp.toml"
    file.write_text('sensor_consent = "required"\n[sensors]\ndoor = "camera:/dev/video0"\nhall = "file:/x.png"\n')
    config = load(file, environment={})
    assert (config.sensors, config.sensor_consent) == (("door=camera:/dev/video0", "hall=file:/x.png"), "required")
    text = "door=file:/a;b.png; hall = command:sh -c 'a; b=c'\nyard=microphone:"
    assert environment_parts(text) == ("door=file:/a;b.png", "hall = command:sh -c 'a; b=c'", "yard=microphone:")
    assert len(load(file, environment={"EDGE_MCP_SENSORS": text}).sensors) == 3
    assert load(file, {"sensors": ["x=file:/x"]}, {"EDGE_MCP_SENSORS": text}).sensors == ("x=file:/x",)
    assert load(environment={}, flags={"sensors": {"x": "file:/x"}}).sensors == ("x=file:/x",)
    assert load(environment={"EDGE_MCP_SENSORS": ""}).sensors == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sensors]\ndoor = "camra:x"', "edge-mcp.toml: sensor door: "),
        ("[sensors]\ndoor = 5", "Write a list of strings"),
        ('sensors = "door"', "cannot be named 'door'"),
        ('sensor_consent = "maybe"', "Write one of ask, required, never"),
        ("sensor_timeout_s = 0", "from 1 to 600"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "edge-mcp.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "edge-mcp.toml", environment={})
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\nx", "image/png"),
        (b"RIFF1234WEBPVP8 ", "image/webp"),
        (b"RIFF1234WAVEfmt ", "audio/wav"),
        (b"RIFF1234AVI ", ""),
        (b"RIFF", ""),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"root:x:0:0", ""),
        (b"", ""),
    ],
)
def test_pictures_and_sounds_are_told_by_their_first_bytes(data: bytes, mime: str) -> None:
    assert mime_type(data) == mime
