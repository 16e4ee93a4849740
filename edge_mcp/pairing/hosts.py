"""The hosts that this device is paired with, and the hash of the token that each of them has."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_mcp import private_files
from edge_mcp.config import data_folder
from edge_mcp.errors import ConfigError

MAX_HOSTS = 64
_MAX_FILE = 256 * 1024


class PairedHost(msgspec.Struct, frozen=True):
    """`hash` is the SHA-256 of its token, in hexadecimal digits; `paired` when, in seconds since 1970."""

    name: str
    hash: str
    paired: int


class PairedHosts:
    """Those in `file`, which only its owner may read, and other processes may change. Raises, from all methods but `who`:
    ConfigError when it cannot be read or written."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or data_folder() / "paired-hosts.json"
        self._seen: tuple[int, int, int] | None = None
        self._hashes: list[tuple[bytes, str]] = []

    def who(self, token_hash: bytes) -> str | None:
        """The host with this token: all are compared, in constant time. Where the file cannot be read, nobody."""
        try:
            self._look()
        except ConfigError:
            self._seen, self._hashes = None, []
        name = None
        for known, host in self._hashes:
            if hmac.compare_digest(known, token_hash):
                name = host
        return name

    def all(self) -> list[PairedHost]:
        """Every host, the first paired first."""
        content = private_files.read(self.file, _MAX_FILE)
        if content is None:
            return []
        try:
            return msgspec.json.decode(content, type=list[PairedHost])
        except (msgspec.DecodeError, RecursionError) as error:
            raise ConfigError(f"{self.file} is damaged: {error}", "Delete it: every host has to pair again then") from None

    def add(self, host: PairedHost) -> None:
        """Keep a host, in place of one of its name."""
        with self._changing() as hosts:
            hosts[:] = [other for other in hosts if other.name != host.name]
            if len(hosts) >= MAX_HOSTS:
                raise ConfigError(f"{MAX_HOSTS} hosts are paired already", "Withdraw one: edge-mcp token --revoke NAME")
            hosts.append(host)

    def remove(self, name: str) -> bool:
        """Withdraw the token of a host; whether there was one."""
        with self._changing() as hosts:
            before = len(hosts)
            hosts[:] = [other for other in hosts if other.name != name]
            return len(hosts) < before

    def _look(self) -> None:
        """Read the file again if it is another one."""
        try:
            stat = self.file.stat()
        except OSError:
            self._seen, self._hashes = None, []
            return
        seen = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if seen != self._seen:
            self._hashes = [(bytes.fromhex(host.hash), host.name) for host in self.all() if _is_digest(host.hash)]
            self._seen = seen

    @contextmanager
    def _changing(self) -> Iterator[list[PairedHost]]:
        """The hosts, which are written at the end; one process at a time."""
        with private_files.locked(self.file):
            hosts = self.all()
            yield hosts
            private_files.write(self.file, msgspec.json.encode(hosts))


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
