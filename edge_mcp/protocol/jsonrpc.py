"""JSON-RPC 2.0 as MCP uses it: the envelope, ids, error codes, and the frames that go back."""

import re
from typing import Any

import msgspec

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002  # until 2025-11-25; INVALID_PARAMS since
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
REQUEST_CANCELLED = -32800  # ends the HTTP response of a request that the client cancelled (until 2025-11-25)

MAX_BATCH = 64
"""Messages in a batch."""

RequestId = int | str


class Envelope(msgspec.Struct):
    """One message with everything but the method left undecoded. An absent field is an empty Raw."""

    jsonrpc: str
    id: msgspec.Raw = msgspec.Raw()
    method: str | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _AnyEnvelope(msgspec.Struct):
    """What can be read of a message that is no valid one: perhaps its id."""

    id: msgspec.Raw = msgspec.Raw()


class ErrorObject(msgspec.Struct, omit_defaults=True):
    """A JSON-RPC error."""

    code: int
    message: str
    data: Any = msgspec.UNSET


class _ErrorReply(msgspec.Struct):
    error: ErrorObject
    id: RequestId | msgspec.UnsetType = msgspec.UNSET
    jsonrpc: str = "2.0"


class _ResultReply(msgspec.Struct):
    id: RequestId
    result: Any
    jsonrpc: str = "2.0"


class _Notification(msgspec.Struct):
    method: str
    params: Any
    jsonrpc: str = "2.0"


class _Call(msgspec.Struct):
    id: RequestId
    method: str
    params: Any
    jsonrpc: str = "2.0"


# What decoding a peer's bytes may raise: malformed or ill-typed JSON, bytes that are no UTF-8, endless nesting.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encode = msgspec.json.Encoder().encode
_envelope = msgspec.json.Decoder(Envelope)
_any_envelope = msgspec.json.Decoder(_AnyEnvelope)
_id: msgspec.json.Decoder[RequestId] = msgspec.json.Decoder(RequestId)


class Malformed(Exception):
    """A frame that is no valid request: the error to answer, and the id if one could be read."""

    def __init__(self, code: int, message: str, request_id: RequestId | None, data: Any = msgspec.UNSET) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.data = data


def decode(frame: bytes) -> Envelope:
    """Decode the envelope of one message. Raises: Malformed."""
    try:
        envelope = _envelope.decode(frame)
    except msgspec.ValidationError as error:
        raise Malformed(INVALID_REQUEST, f"not a JSON-RPC 2.0 message: {error}", _find_id(frame)) from None
    except UNDECODABLE as error:
        raise Malformed(PARSE_ERROR, f"not valid JSON: {error}", _seen_id(frame)) from None
    if envelope.jsonrpc != "2.0":
        raise Malformed(INVALID_REQUEST, 'not a JSON-RPC 2.0 message: "jsonrpc" must be "2.0"', _find_id(frame))
    return envelope


class _Part(msgspec.Struct):
    jsonrpc: str


_parts = msgspec.json.Decoder(list[msgspec.Raw])
_strict_parts = msgspec.json.Decoder(list[_Part])
_SMALL = 65_536  # bytes: however many parts that is, they do no harm


def parts(frame: bytes, most: int) -> list[bytes]:
    """The messages of a batch, of which there may be `most`. Raises: Malformed."""
    limit = Malformed(INVALID_REQUEST, f"a batch has 1 to {most} messages", None)
    try:
        if len(frame) > _SMALL:
            # A large array could have millions of elements, each of which costs memory long before they can be counted.
            if frame.count(b'"jsonrpc"') > most * 16:  # the word may also stand inside of a message
                raise limit
            _strict_parts.decode(frame)  # ends at the first element that has no such key
        found = _parts.decode(frame)
    except msgspec.ValidationError as error:
        raise Malformed(INVALID_REQUEST, f"not a batch of JSON-RPC 2.0 messages: {error}", None) from None
    except UNDECODABLE as error:
        raise Malformed(PARSE_ERROR, f"not valid JSON: {error}", None) from None
    if not 0 < len(found) <= most:
        raise limit
    return [bytes(part) for part in found]


def present(raw: msgspec.Raw) -> bool:
    """Whether the field was there at all."""
    return memoryview(raw).nbytes > 0


def request_id(raw: msgspec.Raw) -> RequestId:
    """The id of a request: a string or an integer, never null (2026-07-28, Basic). Raises: Malformed."""
    try:
        return _id.decode(raw)
    except UNDECODABLE:
        raise Malformed(INVALID_REQUEST, '"id" must be a string or an integer', None) from None


def _find_id(frame: bytes) -> RequestId | None:
    try:
        return _id.decode(_any_envelope.decode(frame).id)
    except UNDECODABLE:
        return None


def _seen_id(frame: bytes) -> RequestId | None:
    """The id of a request that cannot be decoded as a whole, such as one with half a surrogate pair; it may wait for it.

    Not that of an answer, which the client would take for that of a request of its own.
    """
    return find_id(frame[:_EDGE], frame[-_EDGE:]) if b'"method"' in frame else None


# Both take time in proportion to what they search: peers choose what that is.
_HEAD_ID = re.compile(rb'\A\s*\{[^{}\[\]]*?"id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.){0,128}")\s*[,}]')
_TAIL_ID = re.compile(rb',\s*"id"\s*:\s*(-?\d+|"(?:[^"\\]|\\.){0,128}")\s*(?=,|\Z)')
_EDGE = 4096


def find_id(head: bytes, tail: bytes) -> RequestId | None:
    """The id of a message of which not all can be read, from its first and last bytes: clients put it at either end."""
    found = _HEAD_ID.search(head) or _TAIL_ID.search(_after_params(tail))
    if found is None:
        return None
    try:
        return _id.decode(found[1])
    except UNDECODABLE:
        return None


def _after_params(tail: bytes) -> bytes:
    """What a message has after its last object or array, without the brace that ends it."""
    end = tail.rstrip()
    if not end.endswith(b"}"):
        return b""
    return end[max(end.rfind(bracket, 0, -1) for bracket in b"{}[]") + 1 : -1]


class _AnyError(msgspec.Struct):
    error: ErrorObject | None = None


def error_code(frame: bytes) -> int | None:
    """The code of an error answer; None for any other frame of this server's."""
    error = msgspec.json.decode(frame, type=_AnyError).error if frame.startswith(b'{"error"') else None
    return error.code if error else None


def result(request_id: RequestId, value: Any) -> bytes:
    """The frame of a successful answer."""
    return _encode(_ResultReply(request_id, value))


def error(request_id: RequestId | None, code: int, message: str, data: Any = msgspec.UNSET) -> bytes:
    """The frame of an error answer; without an id where none could be read."""
    return _encode(_ErrorReply(ErrorObject(code, message, data), msgspec.UNSET if request_id is None else request_id))


def notification(method: str, params: Any) -> bytes:
    """The frame of a notification."""
    return _encode(_Notification(method, params))


def call(request_id: RequestId, method: str, params: Any) -> bytes:
    """The frame of a request."""
    return _encode(_Call(request_id, method, params))
