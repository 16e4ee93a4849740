"""What an HTTP request to the MCP endpoint is, or why it is refused: the validation ladder of Streamable HTTP, without I/O.

The era is told by the header `MCP-Protocol-Version`, never by the method's name (2026-07-28, Versioning: Streamable HTTP).
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import Envelope, Malformed, RequestId
from edge_mcp.protocol.messages import CancelledParams
from edge_mcp.protocol.methods import MODERN_METHODS
from edge_mcp.protocol.versions import LEGACY, MODERN

JSON = "application/json"
EVENTS = "text/event-stream"
VERSION, METHOD, NAME = "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name"

_NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
_BAD_REQUEST = frozenset(
    {
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.INVALID_PARAMS,
        jsonrpc.HEADER_MISMATCH,
        jsonrpc.MISSING_CAPABILITY,
        jsonrpc.UNSUPPORTED_VERSION,
    }
)
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_NO_QUALITY = re.compile(r"q\s*=\s*0(\.0*)?")
_VISIBLE = re.compile(r"[\x20-\x7e\t]*")


class Fields(Protocol):
    """An HTTP request's header fields, whose names are case-insensitive."""

    def getall(self, key: str, default: list[str], /) -> Sequence[str]:
        """Every value of a field."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request is answered with this status; with a JSON-RPC error where there is a `code`, else with `message`."""

    status: int
    message: str
    code: int | None = None
    id: RequestId | None = None
    data: Any = msgspec.UNSET
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The error's JSON-RPC frame."""
        code = jsonrpc.INVALID_REQUEST if self.code is None else self.code
        return jsonrpc.error(self.id, code, self.message, self.data)


@dataclass(frozen=True, slots=True)
class ModernRequest:
    """A request of 2026-07-28; `tool` is what it calls, with `arguments` as they came, if it is a `tools/call`."""

    id: RequestId
    method: str
    tool: str = ""
    arguments: bytes | msgspec.Raw = b""


@dataclass(frozen=True, slots=True)
class LegacyMessage:
    """A message, or a batch of them, of a revision until 2025-11-25.

    `ids` are those of its requests: without any, it is answered with 202. `version` is the header's; `cancels` is the
    request that the message, a notification, calls off.
    """

    ids: tuple[RequestId, ...]
    version: str | None
    initialize: bool = False
    batch: bool = False
    cancels: tuple[RequestId, ...] = ()


@dataclass(frozen=True, slots=True)
class ModernNotification:
    """A notification of 2026-07-28, which is accepted and dropped: a client has none to send over HTTP."""


Accepted = ModernRequest | ModernNotification | LegacyMessage


class _Params(msgspec.Struct):
    meta: msgspec.Raw = msgspec.field(name="_meta", default=msgspec.Raw())
    name: msgspec.Raw = msgspec.Raw()
    uri: msgspec.Raw = msgspec.Raw()
    taskId: msgspec.Raw = msgspec.Raw()
    arguments: msgspec.Raw = msgspec.Raw()


class _Meta(msgspec.Struct):
    version: msgspec.Raw = msgspec.field(name="io.modelcontextprotocol/protocolVersion", default=msgspec.Raw())
    capabilities: msgspec.Raw = msgspec.field(name="io.modelcontextprotocol/clientCapabilities", default=msgspec.Raw())


_params = msgspec.json.Decoder(_Params)
_meta = msgspec.json.Decoder(_Meta)
_string = msgspec.json.Decoder(str)


def status(code: int | None) -> int:
    """The HTTP status of an answer of 2026-07-28 with this error code (None: no error)."""
    if code in _BAD_REQUEST:
        return 400
    return 404 if code == jsonrpc.METHOD_NOT_FOUND else 200


def check_content(fields: Fields, limit: int) -> Refusal | None:
    """Whether a POST's body can be read at all: its declared length, type and encoding."""
    length = _one(fields, "Content-Length")
    if length is not None and (not length.isdecimal() or len(length) > 18 or int(length) > limit):
        return too_large(limit)
    kind = (_one(fields, "Content-Type") or "").partition(";")[0].strip().lower()
    if kind != JSON:
        return Refusal(400, f"Content-Type must be {JSON}")
    if (_one(fields, "Content-Encoding") or "identity").lower() != "identity":
        return Refusal(
            415, "Content-Encoding is not supported: send the body as it is", headers={"Accept-Encoding": "identity"}
        )
    return None


def too_large(limit: int) -> Refusal:
    """For a body beyond `limit` bytes."""
    return Refusal(413, f"the message is larger than {limit} bytes. Send less, or raise max_message_mb")


def check_accept(fields: Fields, *needed: str) -> Refusal | None:
    """Whether the client takes all the types that an answer may have."""
    ranges: dict[str, bool] = {}
    for part in (part for value in fields.getall("Accept", []) for part in value.split(",", 64)[:64]):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        ranges[name] = not any(_NO_QUALITY.fullmatch(parameter) for parameter in parameters)
    for kind in needed:
        matching = (ranges[name] for name in (kind, kind.partition("/")[0] + "/*", "*/*") if name in ranges)
        if not next(matching, False):  # the closest counts
            return Refusal(406, f"Accept must allow {' and '.join(needed)}")
    return None


def check_stream(fields: Fields) -> Refusal | None:
    """Whether a GET or DELETE can belong to a session: those are of the revisions until 2025-11-25."""
    version = _one(fields, VERSION)
    if version is None or version in LEGACY:
        return None
    if version in MODERN:
        return not_allowed("POST")
    return Refusal(400, f"unsupported MCP-Protocol-Version: {version[:100]!r}")


def not_allowed(allow: str) -> Refusal:
    """For a method other than those of `allow`."""
    return Refusal(405, f"this endpoint has {allow} only", headers={"Allow": allow})


def route(fields: Fields, body: bytes) -> Accepted | Refusal:
    """What the body of a POST is. Never raises, whatever header fields and body are."""
    version = _one(fields, VERSION)
    try:
        if version is not None and version not in LEGACY:
            return _modern(fields, version, body)
        if body.lstrip(b" \t\r\n")[:1] == b"[":
            return _batch(version, body)
        envelope = jsonrpc.decode(body)
        message = _legacy(envelope, version)
        if version is None and message.ids and not message.initialize and _enveloped(envelope.params):
            raise Malformed(jsonrpc.HEADER_MISMATCH, f"the header {VERSION} is missing", message.ids[0])
        return message
    except Malformed as error:
        return Refusal(status(error.code), error.message, error.code, error.request_id, error.data)


def _legacy(envelope: Envelope, version: str | None) -> LegacyMessage:
    if isinstance(envelope.method, str) and jsonrpc.present(envelope.id):
        known = jsonrpc.request_id(envelope.id)
        return LegacyMessage((known,), version, envelope.method == "initialize")
    if envelope.method == "notifications/cancelled":
        try:
            return LegacyMessage((), version, cancels=(msgspec.json.decode(envelope.params, type=CancelledParams).requestId,))
        except jsonrpc.UNDECODABLE:
            return LegacyMessage((), version)
    if isinstance(envelope.method, str) or jsonrpc.present(envelope.result) or jsonrpc.present(envelope.error):
        return LegacyMessage((), version)
    unasked = jsonrpc.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
    raise Malformed(jsonrpc.INVALID_REQUEST, 'a request needs a "method"', unasked)


def _batch(version: str | None, body: bytes) -> LegacyMessage:
    """A batch, whose faulty parts the session answers."""
    parts = jsonrpc.parts(body, jsonrpc.MAX_BATCH)
    ids: list[RequestId] = []
    cancels: list[RequestId] = []
    answered = False  # what is no message gets an answer too
    for part in parts:
        try:
            message = _legacy(jsonrpc.decode(part), version)
        except Malformed:
            answered = True
            continue
        ids += message.ids
        cancels += message.cancels
    if answered and not ids:
        raise Malformed(jsonrpc.INVALID_REQUEST, "the batch has no valid request", None)
    return LegacyMessage(tuple(ids), version, batch=True, cancels=tuple(cancels))


def _enveloped(raw: msgspec.Raw) -> bool:
    """Whether params name their revision as 2026-07-28 does."""
    try:
        params = _params.decode(raw)
        return jsonrpc.present(params.meta) and jsonrpc.present(_meta.decode(params.meta).version)
    except jsonrpc.UNDECODABLE:
        return False


def _modern(fields: Fields, version: str, body: bytes) -> ModernRequest | ModernNotification:
    envelope = jsonrpc.decode(body)
    if not jsonrpc.present(envelope.id) and isinstance(envelope.method, str):
        return ModernNotification()
    known = jsonrpc.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
    if known is None or not isinstance(envelope.method, str):
        raise Malformed(jsonrpc.INVALID_REQUEST, "send one JSON-RPC request: a method, and an id", known)
    for name in (VERSION, METHOD, NAME):
        if len(fields.getall(name, [])) > 1:
            raise Malformed(jsonrpc.HEADER_MISMATCH, f"the header {name} is there more than once", known)
    params = _decoded_params(envelope.params, known)
    spoken = _spoken(params.meta, known)
    _match(fields, VERSION, spoken, known)
    _match(fields, METHOD, envelope.method, known)
    named = _name_in(envelope.method, params)
    if named is not None:
        _match(fields, NAME, named, known)
    if spoken not in MODERN:
        supported = {"supported": list(MODERN), "requested": spoken}
        raise Malformed(jsonrpc.UNSUPPORTED_VERSION, f"unsupported protocol version: {spoken[:100]}", known, supported)
    if envelope.method not in MODERN_METHODS:  # some, like initialize, mean something to a session
        raise Malformed(jsonrpc.METHOD_NOT_FOUND, f"method not found: {envelope.method[:100]}", known)
    tool = named if envelope.method == "tools/call" and named is not None else ""
    return ModernRequest(known, envelope.method, tool, params.arguments if tool else b"")


def _decoded_params(raw: msgspec.Raw, known: RequestId) -> _Params:
    try:
        return _params.decode(raw)
    except jsonrpc.UNDECODABLE:
        raise Malformed(jsonrpc.INVALID_PARAMS, '"params" must be an object with "_meta"', known) from None


def _spoken(raw: msgspec.Raw, known: RequestId) -> str:
    """The revision that `_meta` names; its other required key must be there too."""
    keys = "io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities"
    try:
        meta = _meta.decode(raw)
        if bytes(meta.capabilities).lstrip()[:1] == b"{":
            return _string.decode(meta.version)
    except jsonrpc.UNDECODABLE:
        pass
    raise Malformed(jsonrpc.INVALID_PARAMS, f"_meta needs {keys}", known)


def _name_in(method: str, params: _Params) -> str | None:
    """What the body says that `Mcp-Name` has to say; None where there is nothing, or no string."""
    key = _NAMED.get(method)
    try:
        return _string.decode(getattr(params, key)) if key else None
    except jsonrpc.UNDECODABLE:
        return None


def _match(fields: Fields, name: str, expected: str, known: RequestId) -> None:
    """Raises: Malformed unless the header field says the same as the body."""
    value = _one(fields, name)
    if value is None:
        raise Malformed(jsonrpc.HEADER_MISMATCH, f"the header {name} is missing", known)
    if decoded(value) != expected:
        raise Malformed(jsonrpc.HEADER_MISMATCH, f"the header {name} and the body differ", known)


def _one(fields: Fields, name: str) -> str | None:
    values = fields.getall(name, [])
    return values[0].strip(" \t") if values else None


def decoded(value: str) -> str | None:
    """A header field's value without its base64 sentinel (2026-07-28, Streamable HTTP); None where it is not well-formed."""
    if not _VISIBLE.fullmatch(value):
        return None
    sentinel = _SENTINEL.fullmatch(value)
    if sentinel is None:
        return value
    try:
        return base64.b64decode(sentinel[1], validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
