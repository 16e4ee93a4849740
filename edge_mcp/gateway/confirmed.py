"""The file in which a gateway keeps what was behind which name: for its owner only, written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_mcp import private_files
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
        with private_files.locked(self.file):
            memory = self._read()
            before = msgspec.json.encode(memory)
            yield memory
            if (after := msgspec.json.encode(memory)) != before:
                private_files.write(self.file, after)

    def _read(self) -> Memory:
        content = private_files.read(self.file, MAX_FILE)
        if content is None:
            return Memory()
        try:
            return msgspec.json.decode(content, type=Memory)
        except (msgspec.DecodeError, RecursionError) as error:
            hint = "Correct it, or delete it: every tool is new again then"
            raise ConfigError(f"{self.file} is damaged: {error}", hint) from None
