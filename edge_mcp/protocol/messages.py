"""MCP's own messages, as far as edge-mcp looks into them (schema 2025-11-25 and 2026-07-28)."""

from typing import Annotated, Any, Literal

import msgspec

from edge_mcp.protocol.jsonrpc import RequestId

ProgressToken = int | str
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
LogLevel = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]


class Implementation(msgspec.Struct, omit_defaults=True):
    """Who a client or server is."""

    name: str
    version: str
    title: str = ""


class KeepAliveWish(msgspec.Struct):
    """A WebSocket peer wants to be told how it is kept alive, also when that changes; and how often it would be pinged."""

    intervalMs: Annotated[float, msgspec.Meta(gt=0, le=86_400_000)] | None = None


class Meta(msgspec.Struct):
    """A request's `_meta`."""

    version: str | msgspec.UnsetType = msgspec.field(name="io.modelcontextprotocol/protocolVersion", default=msgspec.UNSET)
    capabilities: dict[str, Any] | msgspec.UnsetType = msgspec.field(
        name="io.modelcontextprotocol/clientCapabilities", default=msgspec.UNSET
    )
    progress_token: ProgressToken | None = msgspec.field(name="progressToken", default=None)
    log_level: LogLevel | None = msgspec.field(name="io.modelcontextprotocol/logLevel", default=None)
    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=86_400_000)] | None = msgspec.field(
        name="io.edge-mcp/deadlineMs", default=None
    )
    background: bool = msgspec.field(name="io.edge-mcp/background", default=False)
    keepalive: KeepAliveWish | None = msgspec.field(name="io.edge-mcp/keepalive", default=None)


class Params(msgspec.Struct):
    """The params of any request."""

    meta: Meta = msgspec.field(name="_meta", default_factory=Meta)


class InitializeParams(Params, kw_only=True):
    """`initialize`."""

    protocolVersion: str
    capabilities: dict[str, Any]
    clientInfo: dict[str, Any]


class AskingParams(Params, kw_only=True):
    """A request that may be answered with questions, and its repetition with their answers (2026-07-28, MRTR)."""

    inputResponses: dict[str, dict[str, Any]] = {}
    requestState: str | None = None


class CallParams(AskingParams, kw_only=True):
    """`tools/call`, with the arguments left as the peer encoded them; empty where there are none."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw()


class ListParams(Params):
    """Any list."""

    cursor: str | None = None


class ListToolsParams(ListParams):
    """`tools/list`."""


class ListResourcesParams(ListParams):
    """`resources/list`."""


class ListTemplatesParams(ListParams):
    """`resources/templates/list`."""


class ListPromptsParams(ListParams):
    """`prompts/list`."""


class ReadParams(AskingParams, kw_only=True):
    """`resources/read`."""

    uri: str


class SubscribeParams(Params, kw_only=True):
    """`resources/subscribe` (until 2025-11-25)."""

    uri: str


class UnsubscribeParams(Params, kw_only=True):
    """`resources/unsubscribe` (until 2025-11-25)."""

    uri: str


class PromptParams(AskingParams, kw_only=True):
    """`prompts/get`."""

    name: str
    arguments: dict[str, str] = {}


class Reference(msgspec.Struct):
    """What a completion is for: a prompt by name, or a resource template by URI."""

    type: Literal["ref/prompt", "ref/resource"]
    name: str = ""
    uri: str = ""


class CompletedArgument(msgspec.Struct):
    """The argument being typed."""

    name: str
    value: str


class CompletionContext(msgspec.Struct):
    """The arguments that are already there."""

    arguments: dict[str, str] = {}


class CompleteParams(Params, kw_only=True):
    """`completion/complete`."""

    ref: Reference
    argument: CompletedArgument
    context: CompletionContext = msgspec.field(default_factory=CompletionContext)


class SetLevelParams(Params, kw_only=True):
    """`logging/setLevel` (until 2025-11-25)."""

    level: LogLevel


class Filter(msgspec.Struct, omit_defaults=True):
    """What a `subscriptions/listen` wants to hear of (2026-07-28)."""

    toolsListChanged: bool = False
    promptsListChanged: bool = False
    resourcesListChanged: bool = False
    resourceSubscriptions: list[str] = []
    taskIds: list[str] = []


class ListenParams(Params, kw_only=True):
    """`subscriptions/listen` (2026-07-28)."""

    notifications: Filter


class TaskParams(Params, kw_only=True):
    """`tasks/get` and `tasks/cancel` (extension io.modelcontextprotocol/tasks)."""

    taskId: str


class GetTaskParams(TaskParams):
    """`tasks/get`."""


class CancelTaskParams(TaskParams):
    """`tasks/cancel`."""


class UpdateTaskParams(TaskParams, kw_only=True):
    """`tasks/update`."""

    inputResponses: dict[str, dict[str, Any]] = {}


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


class ToolDefinition(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A tool as `tools/list` shows it."""

    name: str
    title: str = ""
    description: str = ""
    inputSchema: dict[str, Any]
    outputSchema: dict[str, Any] | None = None
    annotations: ToolAnnotations | dict[str, Any] | None = None
    meta: dict[str, Any] | msgspec.UnsetType = msgspec.field(name="_meta", default=msgspec.UNSET)


class ToolResult(msgspec.Struct, omit_defaults=True):
    """CallToolResult. `content` (a list of content blocks) and `structuredContent` may be already encoded."""

    content: Any
    structuredContent: Any = msgspec.UNSET
    isError: bool = False
    meta: Any = msgspec.field(name="_meta", default=msgspec.UNSET)

    @classmethod
    def failed(cls, message: str, meta: Any = msgspec.UNSET) -> "ToolResult":
        """A tool that failed, in words that a language model can act on."""
        return cls([{"type": "text", "text": message}], isError=True, meta=meta)

    def fields(self) -> dict[str, Any]:
        """What it consists of, by MCP's names."""
        own = msgspec.structs.asdict(self)
        own["_meta"] = own.pop("meta")
        return {name: value for name, value in own.items() if value is not msgspec.UNSET}
