"""One client's MCP conversation, of any revision, without I/O: frames in, events out; results in, frames out.

The first request decides the era of the whole conversation (2026-07-28, Versioning: byte streams): `initialize` opens a
legacy one, a request whose `_meta` names its revision a modern one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.codec import JSON, Codec
from edge_mcp.protocol.jsonrpc import MAX_BATCH, ErrorObject, Malformed, RequestId
from edge_mcp.protocol.messages import (
    CancelledParams,
    Implementation,
    InitializeParams,
    KeepAliveWish,
    LogLevel,
    Meta,
    Params,
    ProgressToken,
    SetLevelParams,
    ToolResult,
)
from edge_mcp.protocol.methods import CACHEABLE, LEGACY_METHODS, MODERN_METHODS, capability_of
from edge_mcp.protocol.versions import BATCHES, LEGACY, MODERN, negotiate
from edge_mcp.transports.base import Frame, Oversized

_PARAMS = {**LEGACY_METHODS, **MODERN_METHODS}
_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
_KEEPALIVE = "io.edge-mcp/keepalive"


@dataclass(frozen=True, slots=True)
class Answer:
    """Send `frame`: the session answered request `id` (None where it could not be read) by itself."""

    frame: bytes
    id: RequestId | None


@dataclass(frozen=True, slots=True)
class Request:
    """Do what `params` (by its type) asks and hand the outcome to `Session.result` or `Session.error`."""

    id: RequestId
    params: Params


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client no longer wants the answer to request `id`; the session will not let one out.

    `frame` is to be sent: the answers to a batch that waited for nothing but this one.
    """

    id: RequestId
    frame: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The client answered the server's own request `id` (from `Session.call`): with a result, or with an error."""

    id: RequestId
    result: dict[str, Any] | None
    error: ErrorObject | None


Event = Answer | Request | Cancelled | Response


class _Batch:
    """The answers to a JSON-RPC batch, which leave together."""

    def __init__(self, codec: Codec) -> None:
        self.open = 0
        self.answers: list[bytes] = []
        self._codec = codec

    def frame(self) -> bytes | None:
        """All answers in one frame, once there are all; None before, or when there are none."""
        return self._codec.joined(self.answers) if self.answers and not self.open else None


@dataclass(frozen=True, slots=True)
class About:
    """What a server says of itself. `extensions` are the modern protocol extensions that it has."""

    info: Implementation
    capabilities: dict[str, Any]
    instructions: str = ""
    extensions: tuple[str, ...] = ()
    list_ttl_ms: int = 300_000

    @property
    def modern_capabilities(self) -> dict[str, Any]:
        """The capabilities as `server/discover` has them."""
        if not self.extensions:
            return self.capabilities
        return {**self.capabilities, "extensions": {name: {} for name in self.extensions}}


class Session:
    """The protocol state of one connection. With `version`, that (legacy) revision is taken as agreed on already."""

    def __init__(self, about: About, version: str | None = None, codec: Codec = JSON) -> None:
        self.codec = codec
        self.version = version
        self.capabilities: dict[str, Any] = {}
        """What a legacy client can do; a modern one says so in each request."""
        self.log_level: LogLevel = "info"
        """From which level on a legacy client wants to hear log messages."""
        self.modern = False
        self.keepalive: Callable[[KeepAliveWish | None], dict[str, Any]] | None = None
        """What the answers that open a conversation tell of how its connection is kept alive, by what the peer said of it."""
        self._about = about
        self._open: dict[RequestId, str] = {}
        self._batches: dict[RequestId, _Batch] = {}
        self._asked: set[RequestId] = set()
        self._calls = 0

    def receive(self, frame: Frame) -> list[Event]:
        """What a frame means. Never raises, whatever the peer sent."""
        if isinstance(frame, bytes) and self.version == BATCHES and self.codec.is_batch(frame):
            return self._batch(frame)
        try:
            event = self._oversized(frame) if isinstance(frame, Oversized) else self._message(frame)
        except Malformed as error:
            return [self._refusal(error)]
        return [] if event is None else [event]

    def result(self, request_id: RequestId, value: dict[str, Any] | ToolResult) -> bytes | None:
        """The frame that answers an open request; None when it was cancelled and must not be answered (yet, in a batch)."""
        method = self._open.pop(request_id, None)
        if method is None:
            return None
        return self._leave(request_id, self.codec.result(request_id, self._complete(method, value)))

    def error(self, request_id: RequestId, code: int, message: str, data: Any = msgspec.UNSET) -> bytes | None:
        """The frame that answers an open request with an error; None as for `result`."""
        if self._open.pop(request_id, None) is None:
            return None
        return self._leave(request_id, self.codec.error(request_id, code, message, data))

    def progress(self, token: ProgressToken, progress: float, total: float | None, message: str) -> bytes:
        """A progress notification; `progress` must grow from one to the next."""
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
        params |= {} if total is None else {"total": total}
        return self.codec.notification("notifications/progress", params | ({"message": message} if message else {}))

    def notification(self, method: str, params: dict[str, Any], subscription: RequestId | None = None) -> bytes:
        """Any other notification; `subscription` is the listen request that it belongs to (2026-07-28)."""
        meta = {} if subscription is None else {"_meta": {_SUBSCRIPTION: subscription}}
        return self.codec.notification(method, {**params, **meta})

    def listened(self, request_id: RequestId) -> bytes | None:
        """The frame that ends a `subscriptions/listen` in good order; None when it was cancelled."""
        return self.result(request_id, {"_meta": {_SUBSCRIPTION: request_id}})

    def call(self, method: str, params: dict[str, Any]) -> tuple[RequestId, bytes]:
        """A request to the client (until 2025-11-25), by its id; the answer comes as a Response."""
        self._calls += 1
        self._asked.add(self._calls)
        return self._calls, self.codec.call(self._calls, method, params)

    def withdraw(self, request_id: RequestId) -> bytes:
        """The notification that a request to the client is void; an answer that comes all the same means nothing."""
        self._asked.discard(request_id)
        return self.codec.notification("notifications/cancelled", {"requestId": request_id, "reason": "the call has ended"})

    def _leave(self, request_id: RequestId, frame: bytes) -> bytes | None:
        batch = self._batches.pop(request_id, None)
        if batch is None:
            return frame
        batch.open -= 1
        batch.answers.append(frame)
        return batch.frame()

    def _batch(self, frame: bytes) -> list[Event]:
        """A JSON-RPC batch, which only revision 2025-03-26 has."""
        try:
            parts = self.codec.parts(frame, MAX_BATCH)
        except Malformed as error:
            return [self._refusal(error)]
        batch = _Batch(self.codec)
        batch.open = 1  # the batch itself: nothing leaves before all of it is read
        events: list[Event] = []
        for part in parts:
            try:
                event = self._message(part, in_batch=True)
            except Malformed as error:
                event = self._refusal(error)
            if isinstance(event, Answer):
                batch.answers.append(event.frame)
            elif event is not None:
                events.append(event)
                if isinstance(event, Request):
                    batch.open += 1
                    self._batches[event.id] = batch
        batch.open -= 1
        return events + [Answer(frame, None) for frame in [batch.frame()] if frame is not None]

    def _oversized(self, frame: Oversized) -> Event:
        raise Malformed(
            jsonrpc.INVALID_REQUEST,
            f"message of {frame.size} bytes is larger than the {frame.limit} allowed. Send less, or raise max_message_mb",
            self.codec.find_id(frame.head, frame.tail),
        )

    def _message(self, frame: bytes, in_batch: bool = False) -> Event | None:
        envelope = self.codec.envelope(frame)
        if envelope.method is msgspec.UNSET:
            return self._response(envelope)
        if not jsonrpc.present(envelope.id):
            return self._notification(envelope.method, envelope.params)
        request_id = self.codec.request_id(envelope.id)
        if request_id in self._open:
            raise Malformed(jsonrpc.INVALID_REQUEST, f"id {request_id!r} is still in use by an earlier request", request_id)
        if in_batch and envelope.method == "initialize":
            raise Malformed(jsonrpc.INVALID_REQUEST, "initialize must not be part of a batch", request_id)
        return self._request(request_id, envelope.method, envelope.params)

    def _response(self, envelope: jsonrpc.Envelope) -> Event | None:
        known = self.codec.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
        if not jsonrpc.present(envelope.result) and not jsonrpc.present(envelope.error):
            raise Malformed(jsonrpc.INVALID_REQUEST, 'a request needs a "method"', known)
        if known not in self._asked:
            return None  # JSON-RPC has no answer to an answer
        assert known is not None  # noqa: S101 - narrows the type for mypy
        self._asked.discard(known)
        try:
            if jsonrpc.present(envelope.result):
                return Response(known, self.codec.plain(self.codec.decode(envelope.result, dict[str, Any])), None)
            return Response(known, None, self.codec.decode(envelope.error, ErrorObject))
        except jsonrpc.UNDECODABLE as error:
            return Response(known, None, ErrorObject(jsonrpc.INVALID_REQUEST, f"the client's answer is not valid: {error}"))

    def _notification(self, method: str, params: msgspec.Raw) -> Event | None:
        if method != "notifications/cancelled":
            return None
        try:
            cancelled = self.codec.decode(params, CancelledParams).requestId
        except jsonrpc.UNDECODABLE:
            return None  # JSON-RPC: a notification is never answered, not even a wrong one
        if self._open.pop(cancelled, None) is None:
            return None
        batch = self._batches.pop(cancelled, None)
        if batch is None:
            return Cancelled(cancelled)
        batch.open -= 1
        return Cancelled(cancelled, batch.frame())

    def _request(self, request_id: RequestId, method: str, raw: msgspec.Raw) -> Event:
        params = self._params(request_id, raw, _PARAMS.get(method, Params))
        if isinstance(params, InitializeParams):
            return self._initialize(request_id, params)
        self._check_era(request_id, params.meta)
        if not self.modern and method == "ping":
            return Answer(self.codec.result(request_id, {}), request_id)
        if self.version is None:
            raise Malformed(
                jsonrpc.INVALID_PARAMS,
                f"send initialize first (revisions {', '.join(LEGACY)}), or name the revision {MODERN[-1]} in params._meta",
                request_id,
            )
        self._check_offered(request_id, method)
        if method == "server/discover":
            discovery = {**self._discovery(), **self._kept(params.meta)}
            return Answer(self.codec.result(request_id, self._complete(method, discovery)), request_id)
        if isinstance(params, SetLevelParams):
            self.log_level = params.level
            return Answer(self.codec.result(request_id, {}), request_id)
        self._open[request_id] = method
        return Request(request_id, params)

    def _check_offered(self, request_id: RequestId, method: str) -> None:
        methods = MODERN_METHODS if self.modern else LEGACY_METHODS
        needed = capability_of(method)
        if method not in methods or (needed is not None and needed not in self._about.capabilities):
            raise Malformed(jsonrpc.METHOD_NOT_FOUND, f"method not found: {method[:100]}", request_id)

    def _initialize(self, request_id: RequestId, params: InitializeParams) -> Event:
        if self.modern:
            raise self._unsupported(request_id, params.protocolVersion)
        self.version = negotiate(params.protocolVersion)
        self.capabilities = params.capabilities
        answer = {
            "protocolVersion": self.version,
            "capabilities": self._about.capabilities,
            "serverInfo": self._about.info,
            "instructions": self._about.instructions,
            **self._kept(params.meta),
        }
        return Answer(self.codec.result(request_id, answer), request_id)

    def _check_era(self, request_id: RequestId, meta: Meta) -> None:
        """Check a request's envelope against the conversation's era; the first modern one makes it modern."""
        if meta.version is msgspec.UNSET:
            if self.modern:
                missing = "_meta needs io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities"
                raise Malformed(jsonrpc.INVALID_PARAMS, missing, request_id)
            return
        if self.version is not None and not self.modern:
            spoken = f"this connection was opened by initialize and speaks {self.version}"
            raise Malformed(jsonrpc.INVALID_REQUEST, spoken, request_id)
        if meta.version not in MODERN:
            raise self._unsupported(request_id, meta.version)
        if meta.capabilities is msgspec.UNSET:
            raise Malformed(jsonrpc.INVALID_PARAMS, "_meta needs io.modelcontextprotocol/clientCapabilities", request_id)
        self.modern = True
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
            "capabilities": self._about.modern_capabilities,
            "instructions": self._about.instructions,
        }

    def _kept(self, meta: Meta) -> dict[str, Any]:
        return {} if self.keepalive is None else {"_meta": {_KEEPALIVE: self.keepalive(meta.keepalive)}}

    def _complete(self, method: str, value: dict[str, Any] | ToolResult) -> Any:
        """A result as this conversation's revision wants it."""
        if not self.modern:
            return value
        fields = value if isinstance(value, dict) else value.fields()
        complete = fields.get("resultType", "complete") == "complete"
        caching = {"ttlMs": self._about.list_ttl_ms, "cacheScope": "public"} if method in CACHEABLE and complete else {}
        return {
            "resultType": "complete",
            **caching,
            **{name: field for name, field in fields.items() if field is not msgspec.UNSET},
            "_meta": {**fields.get("_meta", {}), "io.modelcontextprotocol/serverInfo": self._about.info},
        }

    def _params(self, request_id: RequestId, raw: msgspec.Raw, kind: type[Params]) -> Params:
        try:
            return self.codec.decode(raw if jsonrpc.present(raw) else self.codec.empty, kind)
        except jsonrpc.UNDECODABLE as error:
            raise Malformed(jsonrpc.INVALID_PARAMS, f"invalid params: {error}", request_id) from None

    def _refusal(self, error: Malformed) -> Answer:
        return Answer(self.codec.error(error.request_id, error.code, error.message, error.data), error.request_id)
