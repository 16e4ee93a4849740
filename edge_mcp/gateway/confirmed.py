"""The file in which a gateway keeps what was behind which name: for its owner only, written whole or not at all."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_mcp.config import data_folder
from edge_mcp.errors import ConfigError
from edge_mcp.gateway.names import Memory

MAX_FILE = 16 * 1024 * 1024


class Confirmed:
    """What is in `file`, by default the user's own. Another process may confirm something meanwhile: it is read each time."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or data_folder() / "gateway.json"

    def state(self) -> tuple[int, int]:
        """Another one when the file is another one."""
        try:
            found = self.file.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)

    @contextmanager
    def changing(self) -> Iterator[Memory]:
        """The memory, which is written at the end if it is another one; one process at a time. Raises: ConfigError."""
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{self.file} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            memory = self._read()
            before = msgspec.json.encode(memory)
            yield memory
            if (after := msgspec.json.encode(memory)) != before:
                self._write(after)
        finally:
            os.close(folder)

    def _read(self) -> Memory:
        try:
            with self.file.open("rb") as stream:
                return msgspec.json.decode(stream.read(MAX_FILE + 1), type=Memory)
        except FileNotFoundError:
            return Memory()
        except OSError as error:
            raise ConfigError(f"{self.file} cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, RecursionError) as error:
            hint = "Correct it, or delete it: every tool is new again then"
            raise ConfigError(f"{self.file} is damaged: {error}", hint) from None

    def _write(self, content: bytes) -> None:
        temporary = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.file)
        except OSError as error:
            raise ConfigError(f"{self.file} cannot be written: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
