"""The compressors of a listener's WebSockets, few at a time, and what undoes the compression of one connection."""

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from edge_mcp.transports.frames import INVALID, Violation, too_big

MEM_LEVEL = 5
"""zlib's: with a window of 12 bits, 40 kB for each compressor; 8 would be 150 kB for the same ratio."""
COMPRESSOR_BYTES = (1 << 14) + (1 << (MEM_LEVEL + 9)) + 6144  # zlib's manual, at 12 bits
MOST = 32
"""So many connections keep what they sent as a dictionary for what they send next."""
SLICE = 65536
"""A message is compressed so many bytes at a time, and others get their turn between."""
_TAIL = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.1
_MOST_ENDS = 16


class Compressor(Protocol):
    """zlib's, or isal's."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """See zlib."""
        ...

    def flush(self, mode: int = ..., /) -> bytes:
        """See zlib."""
        ...


class _Library(Protocol):
    def compressobj(self, level: int, method: int, wbits: int, memLevel: int, /) -> Compressor: ...


def _library() -> _Library:
    """isal's where it is installed (the extra `fast`): the same format in a third of the time."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    library: _Library = isal_zlib
    return library


class Compressors:
    """Compressors by connection; the one not used for longest is given back first. Who sends messages that stand for
    themselves shares one with all others.

    A compressor may be dropped at any time: what a new one makes refers to nothing before it, and is read by the same peer.
    """

    def __init__(self, library: _Library | None = None, most: int = MOST) -> None:
        self._library = library or _library()
        self._most = most
        self._own: OrderedDict[object, Compressor] = OrderedDict()
        self._shared: dict[int, Compressor] = {}

    def __len__(self) -> int:
        return len(self._own)

    @property
    def held(self) -> int:
        """Bytes that all of them hold, about."""
        return (len(self._own) + len(self._shared)) * COMPRESSOR_BYTES

    def pieces(self, owner: object, message: bytes, bits: int, fresh: bool) -> Iterator[bytes]:
        """A message compressed, piece by piece; `fresh`: it stands for itself."""
        if fresh:
            self.forget(owner)  # it would not know of this message, by which the peer's window moves on
        # Between the pieces of a long message others may come, so it does not use what is shared.
        compressor = self._alone(bits, len(message) > SLICE) if fresh else self._of(owner, bits)
        view = memoryview(message)
        for at in range(0, len(message) - SLICE, SLICE):
            yield compressor.compress(view[at : at + SLICE])
        last = view[(len(message) - 1) // SLICE * SLICE :]
        end = compressor.compress(last) + compressor.flush(zlib.Z_FULL_FLUSH if fresh else zlib.Z_SYNC_FLUSH)
        yield end.removesuffix(_TAIL)

    def forget(self, owner: object) -> None:
        """Give back what belongs to a connection. Idempotent."""
        self._own.pop(owner, None)

    def _of(self, owner: object, bits: int) -> Compressor:
        found = self._own.pop(owner, None)
        self._own[owner] = compressor = found or self._new(bits)
        if len(self._own) > self._most:
            self._own.popitem(last=False)
        return compressor

    def _alone(self, bits: int, long: bool) -> Compressor:
        if long:
            return self._new(bits)
        if bits not in self._shared:
            self._shared[bits] = self._new(bits)
        return self._shared[bits]

    def _new(self, bits: int) -> Compressor:
        return self._library.compressobj(1, zlib.DEFLATED, -bits, MEM_LEVEL)


class Inflater:
    """What a peer compressed; see frames.Inflate. Made when the first compressed message comes.

    zlib's always: it needs 11 kB with a window of 12 bits, and isal's 80 kB.
    """

    __slots__ = ("_bits", "_fresh", "_limit", "_zlib")

    def __init__(self, bits: int, fresh: bool, limit: int) -> None:
        self._bits = bits
        self._fresh = fresh
        self._limit = limit
        self._zlib: zlib._Decompress | None = None

    @property
    def held(self) -> int:
        """Bytes that it holds, about."""
        return 0 if self._zlib is None else (1 << self._bits) + 7168

    def inflate(self, data: bytes | bytearray, last: bool, most: int) -> bytes:
        """See frames.Inflate."""
        try:
            said = self._some(data, most)
            if last:
                said += self._some(_TAIL, most - len(said))
        except zlib.error:
            raise Violation(INVALID, "a compressed message cannot be read") from None
        if last and self._fresh:
            self._zlib = None
        return said

    def _some(self, data: bytes | bytearray, most: int) -> bytes:
        said = b""
        for _ in range(_MOST_ENDS):
            inflater = self._zlib = self._zlib or zlib.decompressobj(-self._bits)
            said += inflater.decompress(data, most - len(said) + 1)
            if len(said) > most:
                raise too_big(self._limit)
            if not inflater.eof:
                return said
            data, self._zlib = inflater.unused_data, None  # its last block (7.2.3.4): what follows begins anew
            if not data:
                return said
        raise Violation(INVALID, "a compressed message ends many times")
