"""Messages as MessagePack, which has what JSON has, and bytes: what transports/README.md says of `mcp.msgpack`."""

import base64
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import INVALID_REQUEST, PARSE_ERROR, Envelope, Malformed, RequestId

MAX_OBJECTS = 1 << 20
"""Lists, maps and texts in a value: each of them may be a byte, and takes up to a hundred in memory."""
SMALL = 1 << 20
"""Bytes of a value that cannot have so many as to do harm."""

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_envelope = msgspec.msgpack.Decoder(Envelope)
_id: msgspec.msgpack.Decoder[RequestId] = msgspec.msgpack.Decoder(RequestId)
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw])


class _AnyEnvelope(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()


class _Apart(msgspec.Struct):
    """What is left undecoded in params."""

    arguments: msgspec.Raw = msgspec.Raw()


_any_envelope = msgspec.msgpack.Decoder(_AnyEnvelope)


class MessagePack:
    """See Codec. What is read and written is the object model of JSON with `bin` for bytes, and nothing else: no other keys
    than texts, no extension types (so no timestamps), no NaN or infinities."""

    name = "msgpack"
    title = "MessagePack"
    empty = b"\x80"

    def encode(self, value: Any) -> bytes:
        """See Codec."""
        return _encode(_written(value))

    def decode(self, data: bytes | msgspec.Raw, kind: type[T]) -> T:
        """See Codec."""
        if memoryview(data).nbytes > SMALL:
            _bound(data, kind)
        value = msgspec.msgpack.decode(data, type=kind)
        _check(value)
        return value

    def plain(self, value: Any) -> Any:
        """See Codec."""
        return _replaced(value, lambda data: base64.b64encode(data).decode("ascii"))

    def told(self, value: Any) -> tuple[str, bytes]:
        """See Codec. Bytes stand in the text by their number: as base64 they would be sent twice, and nobody can read them."""
        written = _written(value)
        return msgspec.json.encode(_replaced(written, lambda data: f"{len(data)} bytes")).decode(), _encode(written)

    def envelope(self, frame: bytes) -> Envelope:
        """See jsonrpc.decode."""
        try:
            envelope = _envelope.decode(frame)
        except msgspec.ValidationError as error:
            raise Malformed(INVALID_REQUEST, f"not a JSON-RPC 2.0 message: {error}", _any_id(frame)) from None
        except jsonrpc.UNDECODABLE as error:
            # Not the id of an answer, which the client would take for that of a request of its own.
            known = self.find_id(frame[:_EDGE], frame[-_EDGE:]) if b"\xa6method" in frame else None
            raise Malformed(PARSE_ERROR, f"not valid MessagePack: {error}", known) from None
        if envelope.jsonrpc != "2.0":
            raise Malformed(INVALID_REQUEST, 'not a JSON-RPC 2.0 message: "jsonrpc" must be "2.0"', _any_id(frame))
        return envelope

    def request_id(self, raw: msgspec.Raw) -> RequestId:
        """See jsonrpc.request_id."""
        try:
            return _id.decode(raw)
        except jsonrpc.UNDECODABLE:
            raise Malformed(INVALID_REQUEST, '"id" must be a string or an integer', None) from None

    def find_id(self, head: bytes, tail: bytes) -> RequestId | None:
        """See jsonrpc.find_id."""
        size = _SIZES.get(head[0]) if head else None
        if size is None or not _is_map(head[0]) or len(head) < 1 + size:
            return None
        pairs, position = _number(head, 0, size), 1 + size
        for done in range(pairs):
            key_end = _end(head, position)
            end = _end(head, key_end) if key_end is not None else None
            if key_end is None or end is None:
                return _last_id(tail, pairs - done - 1)  # of what comes after the value that is not all there
            if head[position:key_end] == _ID:
                return _read_id(head[key_end:end])
            position = end
        return None

    def is_batch(self, frame: bytes) -> bool:
        """See Codec."""
        return bool(frame) and (0x90 <= frame[0] <= 0x9F or frame[0] in (0xDC, 0xDD))

    def parts(self, frame: bytes, most: int) -> list[bytes]:
        """See jsonrpc.parts."""
        size = _SIZES[frame[0]]
        if len(frame) > size and not 0 < _number(frame, 0, size) <= most:
            raise Malformed(INVALID_REQUEST, f"a batch has 1 to {most} messages", None)
        try:
            return [bytes(part) for part in _parts.decode(frame)]
        except jsonrpc.UNDECODABLE as error:
            raise Malformed(PARSE_ERROR, f"not valid MessagePack: {error}", None) from None

    def joined(self, frames: Sequence[bytes]) -> bytes:
        """See Codec."""
        return b"\xdd" + len(frames).to_bytes(4) + b"".join(frames)

    def result(self, request_id: RequestId, value: Any) -> bytes:
        """See jsonrpc.result."""
        return self.encode({"jsonrpc": "2.0", "id": request_id, "result": value})

    def error(self, request_id: RequestId | None, code: int, message: str, data: Any = msgspec.UNSET) -> bytes:
        """See jsonrpc.error."""
        known = {} if request_id is None else {"id": request_id}
        more = {} if data is msgspec.UNSET else {"data": data}
        return self.encode({"jsonrpc": "2.0", **known, "error": {"code": code, "message": message, **more}})

    def notification(self, method: str, params: Any) -> bytes:
        """See jsonrpc.notification."""
        return self.encode({"jsonrpc": "2.0", "method": method, "params": params})

    def call(self, request_id: RequestId, method: str, params: Any) -> bytes:
        """See jsonrpc.call."""
        return self.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


MSGPACK = MessagePack()


# ---- the object model of JSON, with bytes

_LEAVES = frozenset({str, bytes, bool, type(None), msgspec.Raw})
_NO_PARTS = _LEAVES | {int, float, msgspec.UnsetType}
_TEXTS_AND_NUMBERS = frozenset({str, bool, int, float, type(None)})
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1


def _written(value: Any) -> Any:
    """A value as it is encoded: of any type that msgspec knows, and as JSON would have it."""
    match value:
        case str() | bytes() | bool() | None | msgspec.Raw():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dict():
            if all(type(key) is str for key in value):
                return {key: _written(entry) for key, entry in value.items()}
        case list() | tuple():
            return value if _is_simple(value) else [_written(entry) for entry in value]
        case int():
            return value if _LEAST <= value <= _MOST else _written(_as_float(value))
        case bytearray() | memoryview():
            return bytes(value)
    try:
        return _written(msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True))
    except TypeError:
        if not isinstance(value, msgspec.Struct):
            raise
        return {name: _written(field) for name, field in _fields(value)}  # it has parts that are encoded already


def _check(value: Any) -> None:
    """Raises: msgspec.ValidationError where JSON, with bytes, has no such value."""
    kind = type(value)
    if kind is float and not math.isfinite(value):
        raise msgspec.ValidationError("a number is NaN or infinite, which JSON has not")
    if kind not in _NO_PARTS:
        for part in _parts_of(value):
            _check(part)


def _parts_of(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return () if _is_simple(value) else value
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if not isinstance(value, dict):
        raise msgspec.ValidationError(f"{_named(value)} is not what JSON has")
    for key in value:
        if type(key) is not str:
            raise msgspec.ValidationError(f"the key of a map must be a text, not {_named(key)}")
    return value.values()


def _replaced(value: Any, binary: Callable[[bytes], Any]) -> Any:
    """A value with other things in the place of bytes."""
    match value:
        case bytes():
            return binary(value)
        case dict():
            return {key: _replaced(entry, binary) for key, entry in value.items()}
        case list() | tuple() if not set(map(type, value)) <= _TEXTS_AND_NUMBERS:
            return [_replaced(entry, binary) for entry in value]
        case _:
            return value


def _is_simple(values: Sequence[Any]) -> bool:
    """Whether every part of a list can be passed on as it is. Lists of numbers are long: no step in Python for each."""
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        return kinds <= _LEAVES
    try:
        finite = float not in kinds or math.isfinite(sum(values))
    except OverflowError:
        return False
    return finite and (int not in kinds or (min(values) >= _LEAST and max(values) <= _MOST))


def _fields(value: msgspec.Struct) -> list[tuple[str, Any]]:
    """What is written of a struct, by its names."""
    found = []
    for field in _fields_of(type(value)):
        entry = getattr(value, field.name)
        is_default = value.__struct_config__.omit_defaults and entry == field.default
        if entry is not msgspec.UNSET and not is_default:
            found.append((field.encode_name, entry))
    return found


@cache
def _fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _named(value: Any) -> str:
    """A value that JSON has not, or not there, for the one who sent it."""
    names = {"datetime": "a timestamp", "Ext": "an extension type", "bytes": "bin", "tuple": "a list", "NoneType": "nil"}
    name = type(value).__name__
    return names.get(name, f"{'an' if name[0] in 'aeiou' else 'a'} {name}")


# ---- MessagePack's bytes, for what is too large to be decoded, or torn

_EDGE = 4096
_ID = b"\xa2id"
# How many bytes after the first tell a length or a number, or are the value; by the first byte.
_SIZES = {
    **dict.fromkeys([*range(0xC0), 0xC2, 0xC3, *range(0xE0, 0x100)], 0),
    **dict.fromkeys([0xC4, 0xC7, 0xCC, 0xD0, 0xD9], 1),
    **dict.fromkeys([0xC5, 0xC8, 0xCD, 0xD1, 0xDA, 0xDC, 0xDE], 2),
    **dict.fromkeys([0xC6, 0xC9, 0xCA, 0xCE, 0xD2, 0xDB, 0xDD, 0xDF], 4),
    **dict.fromkeys([0xCB, 0xCF, 0xD3], 8),
    **dict.fromkeys([0xD4, 0xD5, 0xD6, 0xD7, 0xD8], 0),
}
_NUMBERS = re.compile(
    rb"(?:[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1]..|[\xca\xce\xd2].{4}|[\xcb\xcf\xd3].{8})*+", re.DOTALL
)


def _is_map(first: int) -> bool:
    return 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)


def _is_list(first: int) -> bool:
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def _number(data: bytes | memoryview, position: int, size: int) -> int:
    """The number of parts, or bytes, that a value's head tells."""
    first = data[position]
    if size:
        return int.from_bytes(data[position + 1 : position + 1 + size])
    return first & 0x1F if 0xA0 <= first <= 0xBF else first & 0x0F


def _step(data: bytes | memoryview, position: int) -> tuple[int, int] | None:
    """Of the value that begins there: where its head and its own bytes end, and how many values it has inside.

    None: it is none, or its head is not all there.
    """
    first = data[position]
    size = _SIZES.get(first)
    if size is None or position + 1 + size > len(data):
        return None
    end = position + 1 + size
    if _is_map(first) or _is_list(first):
        return end, _number(data, position, size) * (2 if _is_map(first) else 1)
    if 0xA0 <= first <= 0xBF or first in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB):
        return end + _number(data, position, size), 0
    if first in (0xC7, 0xC8, 0xC9):
        return end + 1 + _number(data, position, size), 0
    if 0xD4 <= first <= 0xD8:
        return end + 1 + (1 << (first - 0xD4)), 0
    return end, 0


def _end(data: bytes, position: int) -> int | None:
    """Where the value that begins there ends; None: not in `data`. Takes time in proportion to `data` at most."""
    left = 1
    while left:
        step = _step(data, position) if position < len(data) else None
        if step is None or step[0] > len(data):
            return None
        position = step[0]
        left += step[1] - 1
    return position


def _last_id(tail: bytes, pairs: int) -> RequestId | None:
    """The id that is among the last `pairs` of a message."""
    start = len(tail)
    for _ in range(4):  # a peer chooses how often the name is there
        start = tail.rfind(_ID, 0, start)
        if start < 0:
            return None
        ends = [start]
        while len(ends) <= 2 * pairs and ends[-1] != len(tail):
            end = _end(tail, ends[-1])
            if end is None:
                break
            ends.append(end)
        if ends[-1] == len(tail) and len(ends) > 2 and len(ends) % 2:
            return _read_id(tail[ends[1] : ends[2]])
    return None


def _read_id(data: bytes) -> RequestId | None:
    try:
        return _id.decode(data)
    except jsonrpc.UNDECODABLE:
        return None


def _any_id(frame: bytes) -> RequestId | None:
    """The id of a message that is no valid one."""
    try:
        return _id.decode(_any_envelope.decode(frame).id)
    except jsonrpc.UNDECODABLE:
        return None


def _bound(data: bytes | msgspec.Raw, kind: Any) -> None:
    """Raises: msgspec.ValidationError when decoding would take far more memory than `data` does."""
    apart = msgspec.msgpack.decode(data, type=_Apart).arguments if _leaves_arguments(kind) else msgspec.Raw()
    with memoryview(data) as view:
        if view.nbytes - memoryview(apart).nbytes > SMALL and _objects(view) > MAX_OBJECTS:
            raise msgspec.ValidationError(f"it has more than {MAX_OBJECTS} lists, maps and texts. Send tensors as bin")


@cache
def _leaves_arguments(kind: Any) -> bool:
    fields = msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else ()
    return any(field.name == "arguments" and field.type is msgspec.Raw for field in fields)


def _objects(data: memoryview) -> int:
    """How many lists, maps, texts and keys there are; it is not counted much beyond `MAX_OBJECTS`."""
    position = found = 0
    while position < len(data) and found <= MAX_OBJECTS:
        numbers = _NUMBERS.match(data, position)
        position = numbers.end() if numbers else position
        step = _step(data, position) if position < len(data) else None
        if step is None:
            break  # the end; or what cannot be decoded, which the decoder says better
        found += 1 + (step[1] // 2 if _is_map(data[position]) else 0)
        position = step[0]
    return found
