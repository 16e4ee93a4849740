"""Python functions as tools."""

import logging
import re
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import is_dataclass
from typing import Any, get_origin, is_typeddict

import msgspec

from edge_mcp.context import Context
from edge_mcp.errors import ConfigError, EdgeError
from edge_mcp.functions import Function, guarded, schema_of
from edge_mcp.protocol.codec import JSON, Arguments, Codec
from edge_mcp.protocol.content import as_block
from edge_mcp.protocol.messages import ToolDefinition, ToolResult
from edge_mcp.tools.base import TaskUse, Tool

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class FunctionTool:
    """One function as a tool; see tools.base.Tool.

    What it returns becomes content blocks: a text, a block of protocol.content, a list of those; anything else is JSON
    text, and `structuredContent` too where it is an object. A return annotation that is a struct, a dataclass, a TypedDict
    or a dict makes the `outputSchema`, which every answer is checked against.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        title: str = "",
        description: str | None = None,
        input_schema: dict[str, Any] | None = None,
        annotations: dict[str, Any] | None = None,
        task: TaskUse = "never",
        before: Callable[[Context], Awaitable[Any]] | None = None,
    ) -> None:
        self._function = Function(function)
        self._function.name = name = name or self._function.name
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a tool cannot be named {name!r}", "Use 1 to 64 letters, digits, '_' or '-'")
        self._task = task
        self._before = before
        returns = self._function.returns
        structured = is_structured(returns)
        self._check = msgspec.json.Decoder(returns).decode if structured else None
        self.definition = ToolDefinition(
            name=name,
            title=title,
            description=self._function.description if description is None else description,
            inputSchema=self._function.schema if input_schema is None else input_schema,
            outputSchema=schema_of(returns, name) if structured else None,
            annotations=annotations,
        )

    def task_use(self, arguments: Arguments) -> TaskUse:
        """See Tool."""
        return self._task

    async def prepare(self, arguments: Arguments, context: Context) -> None:
        """See Tool."""
        if self._before is not None:
            await guarded(self._before(context))

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        """See Tool."""
        values = self._function.decode(arguments)
        try:
            try:
                value = await self._function.call(values, context)
            except ValueError as error:
                return ToolResult.failed(str(error))
            return self._result(value, arguments.codec)  # a ValueError of this one is not the caller's
        except EdgeError:
            raise
        except Exception:
            logger.exception("the tool %s failed unexpectedly", self.definition.name)
            return ToolResult.failed("internal error")

    def _result(self, value: Any, codec: Codec) -> ToolResult:
        if isinstance(value, ToolResult):
            return value
        if self._check is not None:
            text, encoded = codec.told(value)
            self._check(encoded if codec is JSON else msgspec.json.encode(value))
            return ToolResult([{"type": "text", "text": text}], msgspec.Raw(encoded))
        parts = [] if value is None else value if isinstance(value, list | tuple) else [value]
        blocks = [block for block in map(as_block, parts) if block is not None]
        if len(blocks) == len(parts):
            return ToolResult(blocks)
        text, encoded = codec.told(value)
        structured = msgspec.Raw(encoded) if text.startswith("{") else msgspec.UNSET
        return ToolResult([{"type": "text", "text": text}], structured)


class FunctionTools:
    """The tools written in Python; see tools.base.Catalogue. Its mapping is a new one after each change.

    `taken` are names that others have.
    """

    def __init__(self, taken: Container[str] = ()) -> None:
        self._taken = taken
        self._tools: dict[str, Tool] = {}

    async def tools(self) -> Mapping[str, Tool]:
        """See Catalogue."""
        return self._tools

    def has(self, name: str) -> bool:
        """Whether there is one of this name."""
        return name in self._tools

    def add(self, tool: Tool) -> None:
        """Raises: ConfigError when there is one of this name."""
        name = tool.definition.name
        if name in self._tools or name in self._taken:
            raise ConfigError(f"there is a tool {name} already", "Give one of them another name")
        self._tools = {**self._tools, name: tool}

    def remove(self, name: str) -> None:
        """Raises: ConfigError when there is none of this name."""
        if name not in self._tools:
            raise ConfigError(f"there is no tool {name} of yours")
        self._tools = {known: tool for known, tool in self._tools.items() if known != name}


def is_structured(kind: Any) -> bool:
    """Whether values of this type are JSON objects with a schema of their own."""
    origin = get_origin(kind) or kind
    if not isinstance(origin, type) or origin is ToolResult or hasattr(origin, "block"):
        return False
    return issubclass(origin, msgspec.Struct | Mapping) or is_dataclass(origin) or is_typeddict(origin)
