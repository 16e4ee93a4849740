"""Remembers the signatures of bare model files, so that only the first start has to ask the engine for them."""

import hashlib
import logging
import os
from pathlib import Path

import msgspec

from edge_mcp.engine.messages import Described

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
        place = self._place(file, signature)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = place.with_suffix(f".{os.getpid()}")
            draft.write_bytes(msgspec.json.encode(_Remembered(*_identity(file), described, _FORMAT)))
            draft.replace(place)
        except OSError as error:
            logger.debug("the signature of %s is not kept: %s", file, error)

    def _place(self, file: Path, signature: str) -> Path:
        named = os.fsencode(file.absolute()) + (b"\0" + signature.encode() if signature else b"")
        return self._folder / (hashlib.sha256(named).hexdigest()[:32] + ".json")


def _identity(file: Path) -> tuple[str, int, int, int]:
    status = file.stat()
    return str(file.absolute()), status.st_size, status.st_mtime_ns, status.st_ino
