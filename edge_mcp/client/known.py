"""The devices that this machine knows: who they proved to be, and the token that each of them gave.

One file for all, which only its owner may read. A device is known by its id, or, where it was only ever named by its address,
by that. An advert in the network says where a device is; what is here says how it has to prove that it is the one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edge_mcp import private_files
from edge_mcp.config import data_folder
from edge_mcp.errors import ConfigError

MAX_KNOWN = 1000
_MAX_FILE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """A device. `fingerprint` (64 hexadecimal digits): what its certificate has to have, empty for one without TLS; `token`:
    what to show it, if anything. `url`: where it is, if that does not change; of a device without an id that is who it is."""

    id: str
    name: str
    fingerprint: str = ""
    token: str = ""
    url: str = ""

    @property
    def key(self) -> str:
        """By what it is told from others."""
        return self.id or self.url


def address_key(url: str) -> str:
    """By what a device is told that is only known by its address: how its URL begins. Raises: ValueError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


class KnownDevices:
    """Those in `file`, by default the user's own. Other processes may change it meanwhile: it is read each time.

    Raises, from all methods: ConfigError when the file cannot be read or written, or is damaged.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or data_folder() / "devices.json"

    def all(self) -> list[Known]:
        """Every device."""
        return list(self._read().values())

    def get(self, key: str) -> Known | None:
        """The device with this id, or at this address."""
        return self._read().get(key) if key else None

    def named(self, name_or_id: str) -> list[Known]:
        """Those with this name or id: several devices may have one name."""
        return [known for known in self._read().values() if name_or_id in (known.name, known.key)]

    def remember(self, known: Known) -> None:
        """Keep it, in place of what was known of it."""
        with self._changing() as devices:
            devices[known.key] = known
            if len(devices) > MAX_KNOWN:
                raise ConfigError(f"{self.file} has {MAX_KNOWN} devices already", "Forget one: edge-mcp discover --forget NAME")

    def forget(self, key: str) -> bool:
        """Drop what is known of it; whether it was known."""
        with self._changing() as devices:
            return devices.pop(key, None) is not None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Known]]:
        """The devices, which are written at the end; one process at a time."""
        with private_files.locked(self.file):
            devices = self._read()
            yield devices
            content = msgspec.json.format(msgspec.json.encode(list(devices.values())), indent=1)
            private_files.write(self.file, content + b"\n")

    def _read(self) -> dict[str, Known]:
        content = private_files.read(self.file, _MAX_FILE)
        if content is None:
            return {known.key: known for known in _of_before(self.file.with_name("known-devices"))}
        try:
            devices = msgspec.json.decode(content, type=list[Known])
        except (msgspec.DecodeError, RecursionError) as error:
            raise ConfigError(
                f"{self.file} is damaged: {error}", "Correct it, or delete it: every device is new again then"
            ) from None
        return {known.key: known for known in devices}


def _of_before(file: Path) -> Iterator[Known]:
    """What edge-mcp 0.1.0 remembered: a line `HOST:PORT sha256:DIGITS` for each address. Raises: ConfigError."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MAX_FILE).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    for line in lines:
        address, _, fingerprint = line.partition(" ")
        digits = fingerprint.removeprefix("sha256:")
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise ConfigError(f"{file} has no fingerprint for {address[:100]}", "Delete that line")
        yield Known("", address, digits, url=f"wss://{address}")
