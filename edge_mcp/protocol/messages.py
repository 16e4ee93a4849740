"""MCP's own messages, as far as edge-mcp looks into them (schema 2025-11-25 and 2026-07-28)."""

from typing import Any

import msgspec

from edge_mcp.protocol.jsonrpc import RequestId

ProgressToken = int | str


class Implementation(msgspec.Struct, omit_defaults=True):
    """Who a client or server is."""

    name: str
    version: str
    title: str = ""


class Meta(msgspec.Struct):
    """A request's `_meta`."""

    version: str | msgspec.UnsetType = msgspec.field(name="io.modelcontextprotocol/protocolVersion", default=msgspec.UNSET)
    capabilities: dict[str, Any] | msgspec.UnsetType = msgspec.field(
        name="io.modelcontextprotocol/clientCapabilities", default=msgspec.UNSET
    )
    progress_token: ProgressToken | None = msgspec.field(name="progressToken", default=None)


class Params(msgspec.Struct):
    """The params of any request."""

    meta: Meta = msgspec.field(name="_meta", default_factory=Meta)


class InitializeParams(Params, kw_only=True):
    """`initialize`."""

    protocolVersion: str
    capabilities: dict[str, Any]
    clientInfo: dict[str, Any]


class CallParams(Params, kw_only=True):
    """`tools/call`, with the arguments left as the peer encoded them."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class ListParams(Params):
    """`tools/list`."""

    cursor: str | None = None


class CancelledParams(msgspec.Struct):
    """`notifications/cancelled`."""

    requestId: RequestId
    reason: str = ""


class ProgressParams(msgspec.Struct):
    """`notifications/progress`."""

    progressToken: ProgressToken
    progress: float
    total: float | None = None
    message: str = ""


class ToolAnnotations(msgspec.Struct, frozen=True):
    """Hints about what a tool does; the defaults are those of a model: it looks and answers."""

    title: str
    readOnlyHint: bool = True
    destructiveHint: bool = False
    idempotentHint: bool = True
    openWorldHint: bool = False


class ToolDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as `tools/list` shows it."""

    name: str
    title: str
    description: str
    inputSchema: dict[str, Any]
    outputSchema: dict[str, Any] | None
    annotations: ToolAnnotations


class ToolResult(msgspec.Struct, omit_defaults=True):
    """CallToolResult. `content` (a list of content blocks) and `structuredContent` may be already encoded."""

    content: Any
    structuredContent: Any = msgspec.UNSET
    isError: bool = False

    @classmethod
    def failed(cls, message: str) -> "ToolResult":
        """A tool that failed, in words that a language model can act on."""
        return cls([{"type": "text", "text": message}], isError=True)
