"""What servers answer, as far as the client looks into it."""

from typing import Any

import msgspec

from edge_mcp.protocol.jsonrpc import RequestId

KEEPALIVE = "io.edge-mcp/keepalive"
MODEL = "io.edge-mcp/model"
_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


class ModelId(msgspec.Struct, frozen=True):
    """Which model it is that a tool runs; `sha256` is how the digest of its file begins."""

    name: str
    version: str
    sha256: str


class ListedTool(msgspec.Struct):
    """A tool as any server lists it."""

    name: str
    title: str = ""
    description: str = ""
    inputSchema: dict[str, Any] = {}
    outputSchema: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict)

    @property
    def model(self) -> "ModelId | None":
        """Which model the tool runs; None where it does not say, or not as it should."""
        try:
            return msgspec.convert(self.meta.get(MODEL), ModelId)
        except msgspec.ValidationError:
            return None

    @property
    def repeatable(self) -> bool:
        """Whether a call may be made twice, by what the tool says of itself."""
        hints = self.annotations or {}
        return hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True


class Contents(msgspec.Struct, omit_defaults=True):
    """What a resource holds: a text, or bytes."""

    uri: str = ""
    mimeType: str = ""
    text: str = ""
    blob: bytes = b""


class KeepAlive(msgspec.Struct):
    """The server pings after `intervalMs` of silence, and waits `graceMs` more."""

    intervalMs: float
    graceMs: float


class OpenedMeta(msgspec.Struct):
    """Its `_meta`."""

    keepalive: KeepAlive | None = msgspec.field(name=KEEPALIVE, default=None)


class Opened(msgspec.Struct, kw_only=True):
    """How a server answers that a conversation opens: of either era."""

    supportedVersions: list[str] = []
    protocolVersion: str = ""
    meta: OpenedMeta = msgspec.field(name="_meta", default_factory=OpenedMeta)


class NoteMeta(msgspec.Struct):
    """A notification's `_meta`."""

    subscription: RequestId | None = msgspec.field(name=_SUBSCRIPTION, default=None)


class NoteParams(msgspec.Struct):
    """What a notification of a change says."""

    uri: str = ""
    meta: NoteMeta = msgspec.field(name="_meta", default_factory=NoteMeta)


class ToolList(msgspec.Struct):
    """A page of `tools/list`."""

    tools: list[ListedTool]
    nextCursor: str | None = None


class Read(msgspec.Struct):
    """What `resources/read` answers."""

    contents: list[Contents]
