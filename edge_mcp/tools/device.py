"""`device_status`: how the device is, for a language model that decides what to ask of it."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edge_mcp.context import Context
from edge_mcp.errors import ArgumentError
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.jsonrpc import UNDECODABLE
from edge_mcp.protocol.messages import ToolAnnotations, ToolDefinition, ToolResult
from edge_mcp.repository.manifest import DEVICE_STATUS as NAME
from edge_mcp.tools.base import TaskUse, Tool

_TITLE = "Status of the device"
_SAYS = (
    "How loaded the device is that these tools run on, and why: heat, power, memory, processor; which models are loaded, how "
    "many calls wait. Ask it before much work, or when calls are slow or refused. Takes no arguments, runs no model."
)
_ADVICE = {
    "NOMINAL": "All is well: call as you like.",
    "WARM": "Calls are taken as usual; work that can wait is better done later.",
    "HOT": "It takes less work at once: call one tool after the other, and do without what is not needed.",
    "CRITICAL": "It takes very little work: call only what is urgent, one at a time, and wait half a minute before more.",
}
_COUNT = {"type": "integer", "minimum": 0}
_OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "state": {"enum": list(_ADVICE), "description": "From all is well to hardly any work is taken."},
        "since_s": {"type": ["integer", "null"], "description": "For how many seconds; null: since the start."},
        "why": {
            "type": "array",
            "items": {"type": "object", "properties": {"signal": {"type": "string"}, "text": {"type": "string"}}},
        },
        "budget": {"type": "object", "description": "What the state allows; lanes are runs at once."},
        "signals": {"type": "object", "description": "Each signal; null: this device does not tell."},
        "absent": {"type": "array", "items": {"type": "string"}},
        "models": {
            "type": "array",
            "description": "The models in memory.",
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "memory_mb": {"type": "number"}}},
        },
        "queued": {**_COUNT, "description": "Calls that wait."},
        "running": {**_COUNT, "description": "Batches that run."},
        "calls": {"type": "object", "properties": {"answered": _COUNT, "failed": _COUNT}},
    },
    "required": ["state", "why", "budget", "signals", "models", "queued", "running", "calls"],
}


class DeviceStatus:
    """See tools.base.Tool. `told` gives what the `outputSchema` says."""

    definition = ToolDefinition(
        name=NAME,
        title=_TITLE,
        description=_SAYS,
        inputSchema={"type": "object", "properties": {}, "additionalProperties": False},
        outputSchema=_OUTPUT,
        annotations=ToolAnnotations(_TITLE),
    )

    def __init__(self, told: Callable[[], dict[str, Any]]) -> None:
        self._told = told

    def task_use(self, arguments: Arguments) -> TaskUse:
        """See Tool."""
        return "never"

    async def prepare(self, arguments: Arguments, context: Context) -> None:
        """See Tool."""

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        """See Tool."""
        try:
            given = arguments.decode(dict[str, Any])
        except UNDECODABLE as error:
            raise ArgumentError(f"{NAME}: {error}", "Call it with {}") from None
        if given:
            raise ArgumentError(f"{NAME} takes no arguments", "Call it with {}")
        told = msgspec.to_builtins(self._told())
        return ToolResult([{"type": "text", "text": in_words(told)}], told)


class DeviceTools:
    """See tools.base.Catalogue."""

    def __init__(self, told: Callable[[], dict[str, Any]]) -> None:
        self._tools: Mapping[str, Tool] = {NAME: DeviceStatus(told)}

    async def tools(self) -> Mapping[str, Tool]:
        """See Catalogue."""
        return self._tools


def in_words(told: Mapping[str, Any]) -> str:
    """A few sentences: the state and why, what follows from it, what goes on, and what the signals say."""
    why = "; ".join(reason["text"] for reason in told["why"])
    lanes, running = told["budget"]["lanes"], told["running"]
    models = ", ".join(model["name"] for model in told["models"]) or "none"
    calls = told["calls"]
    sentences = [
        f"The device is {told['state']}{f': {why}' if why else ''}.",
        _ADVICE[told["state"]],
        f"{_counted(running, 'batch runs', 'batches run')} (at most {lanes} at once), "
        f"{_counted(told['queued'], 'call waits', 'calls wait')}.",
        f"Models in memory: {models}.",
        f"Calls since the start: {calls['answered']} answered, {calls['failed']} failed.",
    ]
    return " ".join([*sentences, *_signals(told["signals"])])


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _signals(signals: Mapping[str, Any]) -> list[str]:
    """Only what this device tells."""
    parts = []
    if (cpu := signals.get("cpu_percent")) is not None:
        parts.append(f"processor {cpu} % busy")
    if (degrees := signals.get("temperature_c")) is not None:
        parts.append(f"{degrees:.0f} °C")
    if memory := signals.get("memory"):
        parts.append(f"{memory['available_mb']} of {memory['total_mb']} MB of memory available")
    return [f"Signals: {', '.join(parts)}."] if parts else []
