"""RFC 6455 without I/O: bytes in, messages and control frames out; what is to be sent as bytes. For either side."""

import codecs
import os
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Protocol

MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
"""Opcodes (11.8)."""
NORMAL, GOING_AWAY, PROTOCOL_ERROR, UNSUPPORTED, NO_CODE, INVALID, POLICY, TOO_BIG = (
    1000,
    1001,
    1002,
    1003,
    1005,
    1007,
    1008,
    1009,
)
RESTART, TRY_LATER = 1012, 1013
"""Codes of a close frame (7.4.1, and IANA's register)."""

MAX_REASON = 123
"""Bytes of a close frame's reason (5.5)."""
MAX_EMPTY = 64
"""So many pieces of a message may be empty: they cost work, and no bytes that a limit would count."""

_FIN, _RSV1, _RSV, _MASKED = 0x80, 0x40, 0x70, 0x80
_MOST_CONTROL = 125
_KNOWN = {MORE, TEXT, BINARY, CLOSE, PING, PONG}
_SHORT, _LONG = Struct(">H"), Struct(">Q")
_BLOCK = 65536
_NO_MASK = bytes(4)

Event = tuple[int, bytes]
"""An opcode, and a whole message or the payload of a control frame."""


def xor_slowly(mask: bytes, data: bytearray) -> None:
    """Mask or unmask `data` in place (5.3)."""
    for at, key in enumerate(mask):
        data[at::4] = data[at::4].translate(bytes(key ^ byte for byte in range(256)))


try:  # aiohttp's is a hundred times as fast, and not promised to stay where it is
    from aiohttp._websocket.helpers import websocket_mask as _xor
except ImportError:
    _xor = xor_slowly

xor: Callable[[bytes, bytearray], None] = _xor


class Violation(Exception):
    """The peer broke a rule: end the connection with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Inflate(Protocol):
    """What undoes the compression of one direction."""

    def inflate(self, data: bytes | bytearray, last: bool, most: int) -> bytes:
        """What a piece of a message says; `last`: it is the message's last. Raises: Violation when it is more than `most`
        bytes, or cannot be read."""
        ...


class Reader:
    """What one side sends, read. Holds no more than `limit` bytes of a message, and never more than came.

    `masked`: the other side is a client. `what` names the limit for the user.
    """

    __slots__ = (
        "_begun", "_compressed", "_empty", "_fin", "_inflate", "_left", "_limit", "_mask", "_masked", "_message", "_opcode",
        "_payload", "_rest", "_what", "ended",
    )  # fmt: skip

    def __init__(self, limit: int, masked: bool = True, inflate: Inflate | None = None, what: str = "max_message_mb") -> None:
        self.ended = False
        """Whether a close frame was read: nothing counts that follows."""
        self._limit = limit
        self._masked = masked
        self._inflate = inflate
        self._what = what
        self._rest = b""
        self._left = -1  # bytes of a frame's payload that are to come; -1 between frames
        self._payload = bytearray()
        self._message = bytearray()
        self._begun = 0  # the opcode of a message that was begun
        self._compressed = False
        self._empty = 0
        self._fin = False
        self._opcode = 0
        self._mask = _NO_MASK

    @property
    def held(self) -> int:
        """Bytes that are kept of a message that is not complete."""
        return len(self._payload) + len(self._message)

    def feed(self, data: bytes | memoryview) -> Iterator[Event]:
        """What these bytes complete; take all of it before you feed on. Raises: Violation."""
        view = memoryview(self._rest + bytes(data) if self._rest else data)
        self._rest = b""
        at, end = 0, len(view)
        while at < end and not self.ended:
            if self._left < 0:
                begin = self._head(view, at)
                if begin < 0:
                    self._rest = bytes(view[at:])
                    return
                at = begin
            taken = min(self._left, end - at)
            self._payload += view[at : at + taken]
            at += taken
            self._left -= taken
            if self._left == 0:
                self._left = -1
                event = self._frame()
                if event is not None:
                    yield event

    def _head(self, view: memoryview, at: int) -> int:
        """Read a frame's head (5.2): where its payload begins, or -1 when the head is not there as a whole."""
        end = len(view)
        if end - at < 2:
            return -1
        first, second = view[at], view[at + 1]
        self._check(first, second)
        size = second & 0x7F
        extra = 0 if size < 126 else 2 if size == 126 else 8
        begin = at + 2 + extra + (4 if self._masked else 0)
        if end < begin:
            return -1
        if extra:
            size = (_SHORT if extra == 2 else _LONG).unpack_from(view, at + 2)[0]
        if (first & 0x0F) < CLOSE and size + len(self._message) > self._limit:
            raise too_big(self._limit, self._what)
        self._mask = bytes(view[begin - 4 : begin]) if self._masked else _NO_MASK
        self._left = size
        self._fin = first >= _FIN
        self._opcode = first & 0x0F
        if self._opcode in (TEXT, BINARY):
            self._begun = self._opcode
            self._compressed = bool(first & _RSV1)
        return begin

    def _check(self, first: int, second: int) -> None:
        opcode, size = first & 0x0F, second & 0x7F
        if opcode not in _KNOWN:
            raise Violation(PROTOCOL_ERROR, f"there is no opcode {opcode}")
        if first & _RSV and (first & _RSV != _RSV1 or self._inflate is None or opcode not in (TEXT, BINARY)):
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set that no extension was agreed on for")
        if (second >= _MASKED) != self._masked:
            raise Violation(PROTOCOL_ERROR, "a client's frames are masked, and a server's are not")
        if opcode >= CLOSE:
            if first < _FIN or size > _MOST_CONTROL:
                raise Violation(PROTOCOL_ERROR, f"a control frame is whole and has at most {_MOST_CONTROL} bytes")
        elif (opcode == MORE) != (self._begun != 0):
            words = "goes on that was not begun" if opcode == MORE else "begins inside another one"
            raise Violation(PROTOCOL_ERROR, f"a message {words}")

    def _frame(self) -> Event | None:
        """A frame is complete: what it says, if it says something by itself."""
        payload, self._payload = self._payload, bytearray()
        if payload and self._mask != _NO_MASK:
            xor(self._mask, payload)
        if self._opcode >= CLOSE:
            if self._opcode == CLOSE:
                close_of(payload)
                self.ended = True
            return self._opcode, bytes(payload)
        if not (payload or self._fin):
            self._empty += 1
            if self._empty > MAX_EMPTY:
                raise Violation(POLICY, f"a message of more than {MAX_EMPTY} empty pieces")
        piece: bytes | bytearray = payload
        if self._compressed and self._inflate is not None:
            piece = self._inflate.inflate(payload, self._fin, self._limit - len(self._message))
        if self._message or not self._fin:
            self._message += piece
            piece = self._message
        return self._whole(bytes(piece)) if self._fin else None

    def _whole(self, message: bytes) -> Event:
        opcode, self._begun = self._begun, 0
        self._message = bytearray()
        self._empty = 0
        if opcode == TEXT and not is_text(message):
            raise Violation(INVALID, "a text message is not UTF-8")
        return opcode, message


def too_big(limit: int, what: str = "max_message_mb") -> Violation:
    """A message is larger than allowed."""
    return Violation(TOO_BIG, f"message larger than {limit} bytes ({what})")


def is_text(data: bytes) -> bool:
    """Whether it is UTF-8; needs no memory for it."""
    if data.isascii():
        return True
    decode = codecs.getincrementaldecoder("utf-8")().decode
    view = memoryview(data)
    try:
        for at in range(0, len(data), _BLOCK):
            decode(view[at : at + _BLOCK], at + _BLOCK >= len(data))
    except UnicodeDecodeError:
        return False
    return True


def close_of(payload: bytes | bytearray) -> tuple[int, str]:
    """A close frame's code and reason; `NO_CODE` when it has none. Raises: Violation."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not ((1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999):
        raise Violation(PROTOCOL_ERROR, "a close frame's code is none that may be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(INVALID, "a close frame's reason is not UTF-8") from None


def closing(code: int, reason: str) -> bytes:
    """The payload of a close frame; a long reason is cut."""
    if code == NO_CODE:
        return b""
    return _SHORT.pack(code) + reason.encode()[:MAX_REASON].decode(errors="ignore").encode()


def head(opcode: int, size: int, compressed: bool = False, masked: bool = False) -> bytes:
    """A whole frame's head, without the mask's four bytes."""
    first = _FIN | opcode | (_RSV1 if compressed else 0)
    bit = _MASKED if masked else 0
    if size < 126:
        return bytes((first, bit | size))
    if size < 65536:
        return bytes((first, bit | 126)) + _SHORT.pack(size)
    return bytes((first, bit | 127)) + _LONG.pack(size)


def frame(opcode: int, payload: bytes, compressed: bool = False, masked: bool = False) -> bytes:
    """A whole frame; `masked`: a client's."""
    start = head(opcode, len(payload), compressed, masked)
    if not masked:
        return start + payload
    mask, hidden = os.urandom(4), bytearray(payload)
    xor(mask, hidden)
    return start + mask + hidden
