"""The few params of messages that the bridge has to know, read out of frames that it passes on as they are."""

from collections.abc import Collection, Iterator
from hashlib import sha256
from typing import Any

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import Malformed, RequestId
from edge_mcp.protocol.messages import Filter
from edge_mcp.protocol.versions import MODERN

CHANGED = {
    "tools/list": ("notifications/tools/list_changed", "toolsListChanged"),
    "prompts/list": ("notifications/prompts/list_changed", "promptsListChanged"),
    "resources/list": ("notifications/resources/list_changed", "resourcesListChanged"),
    "resources/templates/list": ("notifications/resources/list_changed", "resourcesListChanged"),
}
"""Which notification tells that a list is another one, and what in a subscription's filter asks for it."""
STATEFUL = {"initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", *CHANGED}
"""Requests whose success the bridge has to remember."""
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN[-1],
    "io.modelcontextprotocol/clientCapabilities": {},
}
_SAFE = STATEFUL | {
    "ping",
    "server/discover",
    "subscriptions/listen",
    "resources/read",
    "prompts/get",
    "completion/complete",
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
}


KEEPALIVE = "io.edge-mcp/keepalive"


class _KeepAlive(msgspec.Struct):
    intervalMs: float
    graceMs: float


class _OpenedMeta(msgspec.Struct):
    keepalive: _KeepAlive | None = msgspec.field(default=None, name=KEEPALIVE)


class _Opened(msgspec.Struct):
    meta: _OpenedMeta = msgspec.field(default_factory=_OpenedMeta, name="_meta")


class Meta(msgspec.Struct):
    """What of `_meta` counts."""

    progressToken: RequestId | None = None
    subscription: RequestId | None = msgspec.field(default=None, name=SUBSCRIPTION)


class _Arguments(msgspec.Struct):
    stream: msgspec.Raw = msgspec.Raw()


class Params(msgspec.Struct):
    """What of any message's params counts."""

    meta: Meta = msgspec.field(default_factory=Meta, name="_meta")
    name: str = ""
    uri: str = ""
    cursor: str | None = None
    requestId: RequestId | None = None
    progressToken: RequestId | None = None
    progress: float = 0.0
    task: msgspec.Raw = msgspec.Raw()
    arguments: _Arguments = msgspec.field(default_factory=_Arguments)
    notifications: Filter = msgspec.field(default_factory=Filter)


class _Agreed(msgspec.Struct):
    protocolVersion: str


class _Hints(msgspec.Struct):
    readOnlyHint: bool = False
    idempotentHint: bool = False


class _Tool(msgspec.Struct):
    name: str
    annotations: _Hints | None = None


class ToolPage(msgspec.Struct):
    """A page of `tools/list`."""

    tools: list[_Tool]
    nextCursor: str | None = None

    def repeatable(self) -> set[str]:
        """The tools whose calls do no harm when they are made twice, as they say."""
        return {
            tool.name
            for tool in self.tools
            if tool.annotations and (tool.annotations.readOnlyHint or tool.annotations.idempotentHint)
        }


def tool_page(result: msgspec.Raw) -> ToolPage:
    """A page of `tools/list`; an empty one where it is none."""
    try:
        return msgspec.json.decode(result, type=ToolPage)
    except jsonrpc.UNDECODABLE:
        return ToolPage([])


_params = msgspec.json.Decoder(Params)


def parameters(raw: msgspec.Raw) -> Params:
    """What counts of params; nothing where they are not as MCP has them: who they are for will say so."""
    try:
        return _params.decode(raw)
    except jsonrpc.UNDECODABLE:
        return Params()


def frame_params(frame: bytes) -> Params:
    """The params of a message that was decoded before."""
    return parameters(jsonrpc.decode(frame).params)


def may_repeat(method: str, frame: bytes, tools: Collection[str]) -> bool:
    """Whether a request does no harm when it is done twice. A call that goes on a stream of sound does: it is heard twice."""
    if method != "tools/call":
        return method in _SAFE
    params = frame_params(frame)
    return params.name in tools and not jsonrpc.present(params.arguments.stream) and not jsonrpc.present(params.task)


def agreed_version(result: msgspec.Raw) -> str:
    """The revision in a result of `initialize`."""
    try:
        return msgspec.json.decode(result, type=_Agreed).protocolVersion
    except jsonrpc.UNDECODABLE:
        return ""


def silence(raw: msgspec.Raw) -> float | None:
    """After how many seconds without a word the device is gone, as its notification says."""
    try:
        told = msgspec.json.decode(raw, type=_KeepAlive)
    except jsonrpc.UNDECODABLE:
        return None
    return (told.intervalMs + told.graceMs) / 1000


def opened_silence(result: msgspec.Raw) -> float | None:
    """The same, as the answer says that opens a conversation."""
    try:
        told = msgspec.json.decode(result, type=_Opened).meta.keepalive
    except jsonrpc.UNDECODABLE:
        return None
    return None if told is None else (told.intervalMs + told.graceMs) / 1000


def updates(wanted: Filter, methods: Collection[str], subscription: RequestId) -> Iterator[bytes]:
    """What a subscription is told when these lists have changed, and its resources may have."""
    meta = {"_meta": {SUBSCRIPTION: subscription}}
    for name, asks in dict.fromkeys(CHANGED[method] for method in methods):
        if getattr(wanted, asks):
            yield jsonrpc.notification(name, meta)
    for uri in wanted.resourceSubscriptions:
        yield jsonrpc.notification("notifications/resources/updated", {"uri": uri, **meta})


def digest(result: msgspec.Raw) -> bytes:
    """What tells one result from another."""
    return sha256(result).digest()


def encoded(message: dict[str, Any]) -> bytes:
    """A message, of which parts may be encoded already."""
    return msgspec.json.encode({"jsonrpc": "2.0", **message})


def batch(frames: list[bytes]) -> bytes:
    """Several messages in one frame."""
    return b"[" + b",".join(frames) + b"]"


def check_text(frame: bytes) -> None:
    """The device takes only text, and would end the connection of everybody otherwise. Raises: Malformed."""
    if frame.isascii():
        return
    try:
        frame.decode()
    except UnicodeDecodeError as error:
        raise Malformed(jsonrpc.PARSE_ERROR, f"not valid UTF-8: {error.reason}", None) from None
