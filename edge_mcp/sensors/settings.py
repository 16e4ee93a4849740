"""`NAME = "KIND:…"` of the setting `sensors`, checked. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote

from edge_mcp.errors import ConfigError

SCHEME = "sensor://"
MAX_SECONDS = 60.0
_NAME = re.compile(r"[a-z0-9-]{1,64}")
_SIZE = {"width": (1, 10_000), "height": (1, 10_000)}
_KINDS: Mapping[str, Mapping[str, tuple[float, float]]] = {  # and their options, with the least and the largest value
    "camera": {**_SIZE, "skip": (0, 120)},
    "picamera2": _SIZE,
    "microphone": {"seconds": (0.1, MAX_SECONDS), "rate": (8000, 192_000), "channels": (1, 8)},
    "file": {},
    "folder": {},
    "command": {},
}
_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "camera": {"width": 0, "height": 0, "skip": 4},
    "picamera2": {"width": 0, "height": 0},
    "microphone": {"seconds": 4, "rate": 16_000, "channels": 1},
}
_EXAMPLE = 'Write NAME = "KIND:…", such as door = "camera:/dev/video0"'
_MEDIA = {"camera": "image", "picamera2": "image", "microphone": "audio"}
_SUFFIXES = {
    "image": ("jpg", "jpeg", "png", "webp", "bmp", "gif"),
    "audio": ("wav", "flac", "ogg"),
}
MEDIA_OF = {suffix: media for media, suffixes in _SUFFIXES.items() for suffix in suffixes}


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor. `target` is its device, path or command line; `options` are numbers, with defaults filled in (a size of 0:
    the device's own)."""

    name: str
    kind: str
    target: str
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """What names it in arguments, and as a resource."""
        return SCHEME + self.name

    @property
    def media(self) -> str:
        """`image` or `audio`; empty where only reading it tells."""
        if self.kind == "file":
            return MEDIA_OF.get(self.target.rpartition(".")[2].lower(), "")
        return _MEDIA.get(self.kind, "")

    @property
    def seconds(self) -> float:
        """How long it records."""
        return self.options.get("seconds", 0.0)


def sensors_of(settings: Iterable[str]) -> dict[str, Sensor]:
    """The sensors of settings `NAME=URL`, by name. Raises: ConfigError."""
    sensors: dict[str, Sensor] = {}
    for setting in settings:
        sensor = sensor_of(setting)
        if sensor.name in sensors:
            raise ConfigError(f"there are two sensors {sensor.name!r}", "Give one of them another name")
        sensors[sensor.name] = sensor
    return sensors


def sensor_of(setting: str) -> Sensor:
    """The sensor of one setting `NAME=URL`. Raises: ConfigError."""
    name, equals, url = (part.strip() for part in setting.partition("="))
    if not equals or not _NAME.fullmatch(name):
        raise ConfigError(f"a sensor cannot be named {name[:100]!r}", f"Use lower-case letters, digits and hyphens. {_EXAMPLE}")
    kind, colon, rest = url.partition(":")
    if not colon or kind not in _KINDS:
        near = get_close_matches(kind[:64].lower(), _KINDS, n=1)
        meant = f"Did you mean {near[0]}:? " if near else ""
        raise ConfigError(f"sensor {name}: {url[:100]!r} is of no known kind", f"{meant}The kinds are {', '.join(_KINDS)}")
    target, options = _parts(name, kind, rest)
    if not target and kind not in ("picamera2", "microphone"):
        wanted = {"camera": "/dev/video0", "command": "PROGRAM ARGS"}.get(kind, "/path")
        raise ConfigError(f"sensor {name}: {kind}: says nothing of what to read", f"Write {kind}:{wanted}")
    return Sensor(name, kind, target, options)


def environment_parts(text: str) -> tuple[str, ...]:
    """The settings in one environment variable: separated by line ends, or by semicolons before `NAME=KIND:`."""
    parts = re.split(r"\n|;\s*(?=[a-z0-9-]+\s*=\s*[a-z0-9]+:)", text)
    return tuple(part.strip() for part in parts if part.strip())


def nearest(name: str, known: Iterable[str]) -> str:
    """What was probably meant by a name that is not there."""
    names = list(known)
    near = get_close_matches(name[:64], names, n=1)
    return f"Did you mean {SCHEME}{near[0]}?" if near else f"There are {', '.join(SCHEME + one for one in names[:20])}"


def _parts(name: str, kind: str, rest: str) -> tuple[str, dict[str, float]]:
    if kind == "command":
        _check_command(name, rest)
        return rest.strip(), {}
    if kind in ("file", "folder"):
        path = rest.removeprefix("//localhost") if rest.startswith("//localhost/") else rest
        return unquote(path.removeprefix("//") if path.startswith("///") else path), {}
    target, _, query = rest.partition("?")
    return unquote(target), {**_DEFAULTS[kind], **_options(name, kind, query)}


def _check_command(name: str, line: str) -> None:
    import shlex

    try:
        shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"sensor {name}: the command {line[:100]!r} cannot be read: {error}", "Close the quotes") from error


def _options(name: str, kind: str, query: str) -> dict[str, float]:
    known = _KINDS[kind]
    options: dict[str, float] = {}
    for key, text in parse_qsl(query, keep_blank_values=True, max_num_fields=20) if query.count("&") < 20 else [(query, "")]:
        if key not in known:
            near = get_close_matches(key[:64], known, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise ConfigError(f"sensor {name}: {kind}: has no option {key[:64]!r}", f"{meant}It has {', '.join(known)}")
        least, most = known[key]
        value = _number(text, whole=key != "seconds")
        if value is None or not least <= value <= most:
            number = "a number" if key == "seconds" else "a whole number"
            raise ConfigError(f"sensor {name}: {key} is {text[:64]!r}", f"Write {number} from {least:g} to {most:g}")
        options[key] = value
    return options


def _number(text: str, whole: bool) -> float | None:
    if not re.fullmatch(r"[0-9]{1,9}" if whole else r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        return None
    return int(text) if whole else float(text)
