"""Which method belongs to which era, what its params are, and which of a server's features it needs."""

from edge_mcp.protocol.messages import (
    CallParams,
    CancelTaskParams,
    CompleteParams,
    GetTaskParams,
    InitializeParams,
    ListenParams,
    ListPromptsParams,
    ListResourcesParams,
    ListTemplatesParams,
    ListToolsParams,
    Params,
    PromptParams,
    ReadParams,
    SetLevelParams,
    SubscribeParams,
    UnsubscribeParams,
    UpdateTaskParams,
)

TASKS = "io.modelcontextprotocol/tasks"

_BOTH: dict[str, type[Params]] = {
    "tools/list": ListToolsParams,
    "tools/call": CallParams,
    "resources/list": ListResourcesParams,
    "resources/templates/list": ListTemplatesParams,
    "resources/read": ReadParams,
    "prompts/list": ListPromptsParams,
    "prompts/get": PromptParams,
    "completion/complete": CompleteParams,
}
LEGACY_METHODS: dict[str, type[Params]] = {
    **_BOTH,
    "initialize": InitializeParams,
    "ping": Params,
    "resources/subscribe": SubscribeParams,
    "resources/unsubscribe": UnsubscribeParams,
    "logging/setLevel": SetLevelParams,
}
MODERN_METHODS: dict[str, type[Params]] = {
    **_BOTH,
    "server/discover": Params,
    "subscriptions/listen": ListenParams,
    "tasks/get": GetTaskParams,
    "tasks/update": UpdateTaskParams,
    "tasks/cancel": CancelTaskParams,
}
CACHEABLE = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)
"""Methods whose results carry `ttlMs` and `cacheScope` (2026-07-28, Caching)."""

# The prefix of a method names the capability that it needs; these need none, or one of another name.
_CAPABILITY = {"completion": "completions", "server": None, "subscriptions": None, "tasks": None}


def capability_of(method: str) -> str | None:
    """The server capability without which `method` does not exist."""
    prefix = method.partition("/")[0]
    return _CAPABILITY.get(prefix, prefix if "/" in method else None)
