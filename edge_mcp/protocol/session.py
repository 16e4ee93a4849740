"""One client's MCP conversation, of any revision, without I/O: frames in, events out; results in, frames out.

The first request decides the era of the whole conversation (2026-07-28, Versioning: byte streams): `initialize` opens a
legacy one, a request whose `_meta` names its revision a modern one.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import Malformed, RequestId
from edge_mcp.protocol.messages import (
    CallParams,
    CancelledParams,
    Implementation,
    InitializeParams,
    ListParams,
    Meta,
    Params,
    ProgressToken,
    ToolResult,
)
from edge_mcp.protocol.versions import LEGACY, MODERN, negotiate
from edge_mcp.transports.base import Frame, Oversized

_PARAMS: dict[str, type[Params]] = {"initialize": InitializeParams, "tools/list": ListParams, "tools/call": CallParams}
_OFFERED = frozenset({"tools/list", "tools/call"})
_CACHEABLE = frozenset({"server/discover", "tools/list"})
_EMPTY = msgspec.Raw(b"{}")
_LIST_TTL_MS = 300_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Send `frame`: the session answered by itself."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """Do what `params` (by its type) asks and hand the outcome to `Session.result` or `Session.error`."""

    id: RequestId
    params: Params


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client no longer wants the answer to request `id`; the session will not let one out."""

    id: RequestId


Event = Answer | Request | Cancelled


@dataclass(frozen=True, slots=True)
class About:
    """What a server says of itself."""

    info: Implementation
    capabilities: dict[str, Any]
    instructions: str


class Session:
    """The protocol state of one connection."""

    def __init__(self, about: About) -> None:
        self.version: str | None = None
        self._about = about
        self._modern = False
        self._open: dict[RequestId, str] = {}

    def receive(self, frame: Frame) -> list[Event]:
        """What a frame means. Never raises, whatever the peer sent."""
        try:
            event = self._oversized(frame) if isinstance(frame, Oversized) else self._message(frame)
        except Malformed as error:
            return [Answer(jsonrpc.error(error.request_id, error.code, error.message, error.data))]
        return [] if event is None else [event]

    def result(self, request_id: RequestId, value: dict[str, Any] | ToolResult) -> bytes | None:
        """The frame that answers an open request; None when it was cancelled and must not be answered."""
        method = self._open.pop(request_id, None)
        return None if method is None else jsonrpc.result(request_id, self._complete(method, value))

    def error(self, request_id: RequestId, code: int, message: str, data: Any = msgspec.UNSET) -> bytes | None:
        """The frame that answers an open request with an error; None when it was cancelled."""
        return None if self._open.pop(request_id, None) is None else jsonrpc.error(request_id, code, message, data)

    def progress(self, token: ProgressToken, progress: float, total: float, message: str) -> bytes:
        """A progress notification; `progress` must grow from one to the next."""
        params = {"progressToken": token, "progress": progress, "total": total, "message": message}
        return jsonrpc.notification("notifications/progress", params)

    def _oversized(self, frame: Oversized) -> Event:
        raise Malformed(
            jsonrpc.INVALID_REQUEST,
            f"message of {frame.size} bytes is larger than the {frame.limit} allowed. Send less, or raise max_message_mb",
            jsonrpc.find_id(frame.head, frame.tail),
        )

    def _message(self, frame: bytes) -> Event | None:
        envelope = jsonrpc.decode(frame)
        if envelope.method is msgspec.UNSET:
            if jsonrpc.present(envelope.result) or jsonrpc.present(envelope.error):
                return None  # an answer; this server asked nothing
            known = jsonrpc.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
            raise Malformed(jsonrpc.INVALID_REQUEST, 'a request needs a "method"', known)
        if not jsonrpc.present(envelope.id):
            return self._notification(envelope.method, envelope.params)
        request_id = jsonrpc.request_id(envelope.id)
        if request_id in self._open:
            raise Malformed(jsonrpc.INVALID_REQUEST, f"id {request_id!r} is still in use by an earlier request", request_id)
        return self._request(request_id, envelope.method, envelope.params)

    def _notification(self, method: str, params: msgspec.Raw) -> Event | None:
        if method != "notifications/cancelled":
            return None
        try:
            cancelled = msgspec.json.decode(params, type=CancelledParams).requestId
        except jsonrpc.UNDECODABLE:
            return None  # JSON-RPC: a notification is never answered, not even a wrong one
        return None if self._open.pop(cancelled, None) is None else Cancelled(cancelled)

    def _request(self, request_id: RequestId, method: str, raw: msgspec.Raw) -> Event:
        params = self._params(request_id, raw, _PARAMS.get(method, Params))
        if isinstance(params, InitializeParams):
            return self._initialize(request_id, params)
        self._check_era(request_id, params.meta)
        if not self._modern and method == "ping":
            return Answer(jsonrpc.result(request_id, {}))
        if self.version is None:
            raise Malformed(
                jsonrpc.INVALID_PARAMS,
                f"send initialize first (revisions {', '.join(LEGACY)}), or name the revision {MODERN[-1]} in params._meta",
                request_id,
            )
        if self._modern and method == "server/discover":
            return Answer(jsonrpc.result(request_id, self._complete(method, self._discovery())))
        if method not in _OFFERED:
            raise Malformed(jsonrpc.METHOD_NOT_FOUND, f"method not found: {method[:100]}", request_id)
        self._open[request_id] = method
        return Request(request_id, params)

    def _initialize(self, request_id: RequestId, params: InitializeParams) -> Event:
        if self._modern:
            raise self._unsupported(request_id, params.protocolVersion)
        self.version = negotiate(params.protocolVersion)
        answer = {
            "protocolVersion": self.version,
            "capabilities": self._about.capabilities,
            "serverInfo": self._about.info,
            "instructions": self._about.instructions,
        }
        return Answer(jsonrpc.result(request_id, answer))

    def _check_era(self, request_id: RequestId, meta: Meta) -> None:
        """Check a request's envelope against the conversation's era; the first modern one makes it modern."""
        if meta.version is msgspec.UNSET:
            if self._modern:
                missing = "_meta needs io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities"
                raise Malformed(jsonrpc.INVALID_PARAMS, missing, request_id)
            return
        if self.version is not None and not self._modern:
            spoken = f"this connection was opened by initialize and speaks {self.version}"
            raise Malformed(jsonrpc.INVALID_REQUEST, spoken, request_id)
        if meta.version not in MODERN:
            raise self._unsupported(request_id, meta.version)
        if meta.capabilities is msgspec.UNSET:
            raise Malformed(jsonrpc.INVALID_PARAMS, "_meta needs io.modelcontextprotocol/clientCapabilities", request_id)
        self._modern = True
        self.version = meta.version

    def _unsupported(self, request_id: RequestId, requested: str) -> Malformed:
        return Malformed(
            jsonrpc.UNSUPPORTED_VERSION,
            f"unsupported protocol version: {requested[:100]}",
            request_id,
            {"supported": list(MODERN), "requested": requested},
        )

    def _discovery(self) -> dict[str, Any]:
        return {
            "supportedVersions": list(MODERN),
            "capabilities": self._about.capabilities,
            "instructions": self._about.instructions,
        }

    def _complete(self, method: str, value: dict[str, Any] | ToolResult) -> Any:
        """A result as this conversation's revision wants it."""
        if not self._modern:
            return value
        fields = value if isinstance(value, dict) else msgspec.structs.asdict(value)
        caching = {"ttlMs": _LIST_TTL_MS, "cacheScope": "public"} if method in _CACHEABLE else {}
        return {
            **{name: field for name, field in fields.items() if field is not msgspec.UNSET},
            "resultType": "complete",
            **caching,
            "_meta": {"io.modelcontextprotocol/serverInfo": self._about.info},
        }

    def _params(self, request_id: RequestId, raw: msgspec.Raw, kind: type[Params]) -> Params:
        try:
            return msgspec.json.decode(raw if jsonrpc.present(raw) else _EMPTY, type=kind)
        except jsonrpc.UNDECODABLE as error:
            raise Malformed(jsonrpc.INVALID_PARAMS, f"invalid params: {error}", request_id) from None
