"""Reads tables of a FlatBuffer that nobody vouches for, without loading the file (flatbuffers.dev, "FlatBuffer Internals").

Every offset is checked against the bytes that there are, and what is read is bounded. A torn buffer raises ValueError.
"""

import struct
from collections.abc import Callable
from mmap import mmap

Read = Callable[[int, int], bytes]
"""`read(offset, size)`: exactly `size` bytes. Raises: ValueError where there are fewer."""


def of_bytes(content: bytes | mmap) -> Read:
    """Read from memory, or a mapped file."""

    def read(offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > len(content):
            raise ValueError(f"torn: {size} bytes at {offset} of {len(content)}")
        return content[offset : offset + size]

    return read


class Table:
    """One table; its fields go by their number in the schema, and one that is absent is None, empty or the default."""

    def __init__(self, read: Read, position: int) -> None:
        self._read = read
        self._position = position
        self._fields = position - self._int("<i", position)
        self._size = self._int("<H", self._fields)

    @classmethod
    def root(cls, read: Read) -> "Table":
        """The buffer's own table. Raises: ValueError."""
        return cls(read, struct.unpack("<I", read(0, 4))[0])

    def number(self, field: int, form: str = "<b", default: float = 0) -> float:
        """A scalar of the `struct` format `form`. Raises: ValueError."""
        place = self._place(field)
        return struct.unpack(form, self._read(place, struct.calcsize(form)))[0] if place else default

    def table(self, field: int) -> "Table | None":
        """Another table, or a union's. Raises: ValueError."""
        place = self._place(field)
        return Table(self._read, self._follow(place)) if place else None

    def tables(self, field: int, most: int) -> list["Table"]:
        """At most `most` of a vector of tables. Raises: ValueError."""
        start, count = self._vector(field)
        return [Table(self._read, self._follow(start + 4 * index)) for index in range(min(count, most))]

    def content(self, field: int, most: int) -> bytes:
        """At most `most` bytes of a vector of bytes. Raises: ValueError."""
        start, count = self._vector(field)
        return self._read(start, min(count, most))

    def text(self, field: int, most: int) -> str:
        """A string, cut after `most` bytes. Raises: ValueError."""
        return self.content(field, most).decode("utf-8", "replace")

    def floats(self, field: int, most: int) -> tuple[float, ...]:
        """At most `most` of a vector of float32. Raises: ValueError."""
        start, count = self._vector(field)
        count = min(count, most)
        return struct.unpack(f"<{count}f", self._read(start, 4 * count))

    def _place(self, field: int) -> int:
        """Where the field is; 0: absent."""
        entry = 4 + 2 * field
        offset = self._int("<H", self._fields + entry) if entry + 2 <= self._size else 0
        return self._position + offset if offset else 0

    def _vector(self, field: int) -> tuple[int, int]:
        """Where a vector's first element is, and how many it has."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = self._follow(place)
        return start + 4, self._int("<I", start)

    def _follow(self, place: int) -> int:
        return place + self._int("<I", place)

    def _int(self, form: str, place: int) -> int:
        value: int = struct.unpack(form, self._read(place, struct.calcsize(form)))[0]
        return value
