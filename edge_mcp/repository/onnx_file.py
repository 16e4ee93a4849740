"""The files in which an ONNX model keeps its weights, read from the file itself: just enough of protobuf, and bounded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge_mcp.errors import ModelError

MAX_FIELDS = 4_000_000
MAX_SIZE = 2**31
MAX_DEPTH = 40
MAX_NAME = 4096
MAX_FILES = 256
_CHUNK = 1024 * 1024
_WORD = b"location"

# What has to be looked into, by message: field number -> message (onnx.proto; an entry is a pair of strings).
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


class _Malformed(Exception):
    """The file is no such message."""


def external_files(path: Path, strict: bool = True) -> set[str]:
    """The names of the files beside `path` in which it keeps tensors; empty where it has none, or is no `.onnx` file.

    Raises: ModelError for a name that is no plain name of a file in the same folder; not `strict`, such names are left out.
    """
    if path.suffix != ".onnx":
        return set()
    try:
        found = _locations(path)
        wrong = sorted(name for name in found if not _is_plain(name))
        if strict and wrong:
            hint = "Weights have to be in files of the same folder"
            raise ModelError(f"{path.name} keeps weights in {wrong[0][:200]!r}, which is no plain file name", hint)
    except OSError as error:
        if strict:
            raise ModelError(f"{path}: cannot be read: {error.strerror}", "Let this user read it") from error
        return set()
    except _Malformed as error:
        if strict:
            raise ModelError(f"{path.name} is no ONNX file that can be read: {error}", "Copy it again") from error
        return set()
    return found.difference(wrong)


def _locations(path: Path) -> set[str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > MAX_SIZE:
            raise _Malformed("it is larger than 2 GiB, which no protobuf can be")
        if not _has_word(file):
            return set()
        found: set[str] = set()
        for name in _Reader(file).message("model", 0, os.fstat(descriptor).st_size, 0):
            found.add(name)
            if len(found) > MAX_FILES:
                raise _Malformed(f"its weights are in more than {MAX_FILES} files")
        return found


def _has_word(file: BinaryIO) -> bool:
    """Whether the word that every reference to another file begins with is anywhere: most models have none."""
    tail = b""
    while chunk := file.read(_CHUNK):
        if _WORD in tail + chunk:
            return True
        tail = chunk[-len(_WORD) :]
    return False


def _is_plain(name: str) -> bool:
    if name.startswith(".") or not 0 < len(name.encode("utf-8", "surrogatepass")) <= 255:
        return False
    return name.isprintable() and not set(name) & set("/\\:")


class _Reader:
    """Walks the messages that can hold tensors; contents of tensors are passed over."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._fields = 0

    def message(self, kind: str, begin: int, end: int, depth: int) -> Iterator[str]:
        """The locations in the message between two offsets. Raises: _Malformed, OSError."""
        if depth > MAX_DEPTH:
            raise _Malformed("it is nested too deeply")
        inner = _MESSAGES[kind]
        for number, start, stop in self._parts(begin, end):
            if inner.get(number) == "entry":
                if location := self._location(start, stop):
                    yield location
            elif number in inner:
                yield from self.message(inner[number], start, stop, depth + 1)

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, begin and end of each field that has a length."""
        position = begin
        while position < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _Malformed("it has too many parts")
            tag, position = self._varint(position, end)
            match tag & 7:
                case 0:
                    _, position = self._varint(position, end)
                case 1:
                    position += 8
                case 5:
                    position += 4
                case 2:
                    length, start = self._varint(position, end)
                    position = start + length
                    if position <= end:
                        yield tag >> 3, start, position
                case _:
                    raise _Malformed("a field is of no known kind")
            if position > end:
                raise _Malformed("it ends too early")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        self._file.seek(position)
        value = 0
        for index, byte in enumerate(self._file.read(min(10, end - position))):
            value |= (byte & 127) << (7 * index)
            if byte < 128:
                return value, position + index + 1
        raise _Malformed("it ends too early")

    def _location(self, begin: int, end: int) -> str:
        """The value of a pair of strings whose key is `location`; empty for any other."""
        if end - begin > MAX_NAME:
            raise _Malformed("a reference to another file is too long")
        key, value = b"", b""
        for number, start, stop in self._parts(begin, end):
            self._file.seek(start)
            text = self._file.read(stop - start)
            if number == 1:
                key = text
            elif number == 2:
                value = text
        # An empty one stays a name, one that is refused.
        return (value.decode("utf-8", "replace") or ".") if key == _WORD else ""
