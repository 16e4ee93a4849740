"""Remembers the signatures of bare model files, so that only the first start has to ask the engine for them."""

import hashlib
import logging
import os
from pathlib import Path

import msgspec

from edge_mcp import private_files
from edge_mcp.engine.messages import Described
from edge_mcp.errors import ConfigError

logger = logging.getLogger(__name__)


_FORMAT = 2  # what is read of a model file: one that was read by an older edge-mcp is read anew


class _Remembered(msgspec.Struct):
    """One cache file: the model file's identity when it was read, and what was read."""

    path: str
    size: int
    modified_ns: int
    inode: int
    described: Described
    format: int = 1


class Signatures:
    """A folder of small JSON files, one per model file; a file that changed is asked for anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_told = False

    def get(self, file: Path, signature: str = "") -> Described | None:
        """What is known of `file` as it is now, by its signature of that name."""
        try:
            remembered = msgspec.json.decode(self._place(file, signature).read_bytes(), type=_Remembered)
            same = _identity(file) == (remembered.path, remembered.size, remembered.modified_ns, remembered.inode)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return remembered.described if same and remembered.format == _FORMAT else None

    def put(self, file: Path, described: Described, signature: str = "") -> None:
        """Remember; a folder that cannot be written costs only time at the next start."""
        try:
            content = msgspec.json.encode(_Remembered(*_identity(file), described, _FORMAT))
            private_files.write(self._place(file, signature), content)
            self._is_told = False
        except (OSError, ConfigError) as error:  # OSError: the file is gone
            if not self._is_told:  # of a full disk once, and not for each model
                logger.warning("signatures are read anew after each start: %s", error)
            self._is_told = True

    def _place(self, file: Path, signature: str) -> Path:
        named = os.fsencode(file.absolute()) + (b"\0" + signature.encode() if signature else b"")
        return self._folder / (hashlib.sha256(named).hexdigest()[:32] + ".json")


def _identity(file: Path) -> tuple[str, int, int, int]:
    status = file.stat()
    return str(file.absolute()), status.st_size, status.st_mtime_ns, status.st_ino
