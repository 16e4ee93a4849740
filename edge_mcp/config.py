"""Settings: flags over environment over `edge-mcp.toml` over defaults, checked once, then frozen."""

import logging
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edge_mcp.errors import ConfigError

logger = logging.getLogger(__name__)

CONFIG_NAME = "edge-mcp.toml"
PREFIX = "EDGE_MCP_"
LOG_LEVELS = ("debug", "info", "warning", "error")
_CHOICES = {"log_level": LOG_LEVELS, "sensor_consent": ("ask", "required", "never")}
_RANGES = {
    "lanes": range(65),
    "max_message_mb": range(1, 129),
    "max_connections": range(1, 10_001),
    "max_connections_per_peer": range(1, 10_001),
    "max_requests_per_s": range(1_000_001),
    "max_sessions": range(1, 10_001),
    "session_idle_s": range(1, 86_401),
    "keepalive_s": range(3601),
    "exit_idle_s": range(604_801),
    "keep_loaded_s": range(1, 604_801),
    "sensor_timeout_s": range(1, 601),
    "memory_mb": range(1_048_577),
}

LIVE = frozenset(
    {
        *("file_roots", "hosts", "log_level", "token_file", "tls_certificate", "tls_key", "name", "mdns", "mdns_interfaces"),
        *("deflate", "max_connections", "max_connections_per_peer", "max_requests_per_s", "max_sessions", "session_idle_s"),
        "keepalive_s",
    }
)
"""The settings that a server takes up while it serves."""


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting. Each may stand in `edge-mcp.toml` under its name, or in the environment as `EDGE_MCP_` + NAME."""

    models: tuple[str, ...] = ()
    """Folders of models; by default the user's own, and those that ship with edge-mcp. Of two of one name the first counts."""
    listen: str = "127.0.0.1:8765"
    """Address of the network listener; the host `*` is every address of this machine."""
    insecure: bool = False
    """Listen beyond this machine although there is no token that peers have to show."""
    token_file: str = ""
    """File with the token that peers on the network have to show, which nobody else may read."""
    tls: bool = False
    """Speak TLS on the network: `https` and `wss`."""
    tls_certificate: str = ""
    """PEM file with the certificate to show, and those that vouch for it; empty: one of its own, made at first use."""
    tls_key: str = ""
    """PEM file with the key of `tls_certificate`."""
    hosts: tuple[str, ...] = ()
    """Names by which peers may call this machine, besides its own."""
    name: str = ""
    """What this device is called in the network; empty: its host name. Four digits of its own follow."""
    mdns: bool = True
    """Advertise this device in the network by mDNS, where it listens beyond this machine."""
    mdns_interfaces: tuple[str, ...] = ()
    """Names of the network interfaces for that; empty: all but loopback, tunnels, and networks of containers."""
    stateless: bool = False
    """Give clients of revisions until 2025-11-25 no sessions over HTTP."""
    old_sse: bool = False
    """Serve HTTP+SSE of revision 2024-11-05 too, at `/sse`."""
    max_connections: int = 256
    """Connections to the network listener at once."""
    max_connections_per_peer: int = 128
    """Of these, from one address."""
    max_requests_per_s: int = 0
    """Requests, and messages on WebSockets, from one address in a second; 0: 1000, and any number from this machine itself."""
    max_sessions: int = 64
    """HTTP sessions of clients of revisions until 2025-11-25."""
    session_idle_s: int = 1800
    """After this many seconds without use such a session ends."""
    keepalive_s: int = 0
    """The longest silence on a WebSocket, in seconds, until its peer is pinged; 0: 25 beyond a proxy or router, else 45, under
    load up to 240."""
    exit_idle_s: int = 0
    """After this many seconds without a connection the server ends, and systemd starts it for the next one; 0: never."""
    deflate: bool = True
    """Compress WebSocket messages where the peer can and it pays."""
    file_roots: tuple[str, ...] = ()
    """Folders that `file:` arguments may name, for every peer; a stdio host may also name files below the working directory."""
    sensors: tuple[str, ...] = ()
    """Cameras, microphones and what stands in for them, each as `NAME=URL`; in the file a table."""
    sensor_consent: str = "ask"
    """Whose user has to agree before a sensor is read: `ask` where the client can ask, `required`, or `never`."""
    sensor_timeout_s: int = 15
    """How long a sensor may take, beyond the seconds that it records."""
    lanes: int = 0
    """Runs at once in an engine process; 0: one for each processor, at most four."""
    keep_loaded_s: int = 300
    """After this many seconds without a call a model is unloaded; after the last one the engine process ends."""
    memory_mb: int = 0
    """What all engine processes may take together, in MiB; 0: half of what the device or its control group has."""
    preload: tuple[str, ...] = ()
    """Names of models that are loaded at the start and kept, besides those whose manifests say so."""
    max_message_mb: int = 32
    """The largest message a peer may send, in MiB."""
    log_level: str = "info"
    """debug, info, warning or error."""

    def address(self) -> tuple[str, int]:
        """`listen` as host and port. Raises: ConfigError."""
        host, colon, port = self.listen.rpartition(":")
        if not (colon and host and re.fullmatch("[0-9]{1,5}", port) and int(port) <= 65535):
            raise ConfigError(f"listen is {self.listen!r}", "Write HOST:PORT, such as 127.0.0.1:8765, or *:8765")
        return host.strip("[]"), int(port)

    def max_message_bytes(self) -> int:
        """`max_message_mb` in bytes."""
        return self.max_message_mb * 1024 * 1024

    def lane_count(self) -> int:
        """The number of lanes on this machine."""
        return self.lanes or min(4, len(os.sched_getaffinity(0)))

    def awaited_folder(self) -> Path | None:
        """The user's own folder of models, where the default counts and it is not there yet."""
        own = data_folder() / "models"
        return None if self.models or os.path.lexists(own) else own

    def model_folders(self) -> tuple[Path, ...]:
        """The folders to look for models in. The user's own is left out where it cannot be read: nobody asked for it."""
        if self.models:
            return tuple(Path(folder) for folder in self.models)
        own = data_folder() / "models"
        return (own, shipped_models()) if _readable(own) and own.is_dir() else (shipped_models(),)


def load(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """Read the settings. `file` must exist when named; else `edge-mcp.toml` in the working directory, the user's
    ~/.config/edge-mcp or /etc/edge-mcp is used if there is one. `flags` whose value is None are not set.

    Raises: ConfigError.
    """
    config = Config()
    for source in [file] if file else [folder / CONFIG_NAME for folder in (Path(), config_folder(), Path("/etc/edge-mcp"))]:
        if file or (_readable(source) and source.is_file()):
            config = _merge(config, _read(source), str(source))
            break
    names = {PREFIX + field.name.upper(): field.name for field in fields(Config)}
    values = {names[name]: value for name, value in environment.items() if name in names}
    config = _merge(config, {name: _from_text(name, text) for name, text in values.items()}, "environment")
    config = _merge(config, {name: value for name, value in (flags or {}).items() if value is not None}, "command line")
    config.address()
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise ConfigError("tls_certificate and tls_key go together", "Name both, or neither for a certificate of its own")
    return config


def taken_up(before: Config, after: Config) -> tuple[Config, list[str]]:
    """What holds of settings that were read anew, and the names of those that differ and wait for a restart."""
    differ = [field.name for field in fields(Config) if getattr(before, field.name) != getattr(after, field.name)]
    now = {name: getattr(after, name) for name in differ if name in LIVE}
    return replace(before, **now), [name for name in differ if name not in LIVE]


def shipped_models() -> Path:
    """The models that come with edge-mcp: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def data_folder() -> Path:
    """Where the user's own models live: systemd's state directory for a service, else the XDG data directory."""
    return _folder("STATE_DIRECTORY", "XDG_DATA_HOME", ".local/share")


def config_folder() -> Path:
    """Where a user's own settings are."""
    return _folder("CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", ".config")


def cache_folder() -> Path:
    """Where what can be made again is kept."""
    return _folder("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache")


def tls_folder() -> Path:
    """Where the certificate of its own and the key are kept."""
    return data_folder() / "tls"


def _folder(systemd: str, xdg: str, home: str) -> Path:
    if folder := os.environ.get(systemd):
        return Path(folder.partition(":")[0])
    return Path(os.environ.get(xdg) or Path.home() / home) / "edge-mcp"


def _readable(path: Path) -> bool:
    """Whether there is such a file or folder, for this user. What others keep for themselves is told, and left out."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        logger.warning("%s is left out: it cannot be read: %s", path, error.strerror)
        return False
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # ValueError also for numbers of thousands of digits
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def _merge(config: Config, values: Mapping[str, Any], origin: str) -> Config:
    known = {field.name: field.default for field in fields(Config)}
    for name, value in values.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ConfigError(f"{origin}: unknown setting {name!r}", f"Did you mean {near[0]!r}?" if near else "")
        if name == "sensors":
            value = _sensors(value, origin)
        config = replace(config, **{name: _checked(name, value, known[name], origin)})
    return config


def _checked(name: str, value: Any, default: Any, origin: str) -> Any:
    if isinstance(default, tuple) and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if type(value) is not type(default):
        kinds = {tuple: "a list of strings", bool: "true or false", int: "a whole number", str: "a string"}
        raise ConfigError(f"{origin}: {name} is {value!r}", f"Write {kinds[type(default)]}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ConfigError(f"{origin}: {name} is {value!r}", f"Write one of {', '.join(_CHOICES[name])}")
    if name in _RANGES and value not in _RANGES[name]:
        raise ConfigError(f"{origin}: {name} is {value}", f"Write a number from {_RANGES[name][0]} to {_RANGES[name][-1]}")
    return value


def _sensors(value: Any, origin: str) -> Any:
    """A table as settings `NAME=URL`, each checked; what is no table or list is left for `_checked`. Raises: ConfigError."""
    from edge_mcp.sensors.settings import environment_parts, sensors_of

    if isinstance(value, str):
        value = environment_parts(value)
    if isinstance(value, Mapping) and all(isinstance(url, str) for url in value.values()):
        value = [f"{name}={url}" for name, url in value.items()]
    if isinstance(value, list | tuple) and all(isinstance(setting, str) for setting in value):
        try:
            sensors_of(value)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error.message}", error.hint) from error
    return value


def _from_text(name: str, text: str) -> Any:
    """An environment variable's value as the setting's type; what does not fit is left for `_checked` to refuse."""
    if name == "sensors":
        return text  # with colons of its own
    default = next(field.default for field in fields(Config) if field.name == name)
    if isinstance(default, tuple):
        return tuple(part for part in text.split(os.pathsep) if part)
    if isinstance(default, bool):
        return {"1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)
    if isinstance(default, int):
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else text
    return text
