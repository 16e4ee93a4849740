"""The tools of all devices as one catalogue."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from edge_mcp.context import Context
from edge_mcp.gateway.choice import usual_s
from edge_mcp.gateway.names import Named
from edge_mcp.gateway.routing import Router
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.messages import ToolDefinition, ToolResult
from edge_mcp.tools.base import TaskUse, Tool

LONG_S = 2.0
"""A tool that usually needs longer runs as a task for a client that can follow one, as on a device."""


class GatewayTool:
    """A tool of one device or of several replicas; see tools.base.Tool."""

    def __init__(self, named: Named, replicas: list[Upstream], router: Router) -> None:
        tool = named.tool
        title = tool.title or tool.name
        if "." in named.name:
            title = f"{title} ({named.name.partition('.')[0]})"
        self.named = named
        self.definition = ToolDefinition(
            name=named.name,
            title=title,
            description=tool.description,
            inputSchema=tool.inputSchema,
            outputSchema=tool.outputSchema,
            annotations=tool.annotations,
            meta=tool.meta or msgspec.UNSET,
        )
        self._replicas = replicas
        self._router = router

    def task_use(self, arguments: Arguments) -> TaskUse:
        """See Tool."""
        return "optional" if usual_s(self._replicas, self.named.tool.name) > LONG_S else "never"

    async def prepare(self, arguments: Arguments, context: Context) -> None:
        """See Tool: what a device asks, it asks in the call."""

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        """See Tool."""
        tool = self.named.tool
        return await self._router.call(self._replicas, tool.name, arguments, context, tool.repeatable)


class Tools(Mapping[str, Tool]):
    """All that can be called; those that are listed when it is gone through."""

    def __init__(self, tools: Mapping[str, GatewayTool]) -> None:
        self._tools = tools
        self._listed = [name for name, tool in tools.items() if tool.named.listed]

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)


class GatewayTools:
    """See tools.base.Catalogue. `current` is what there is now; it answers at once."""

    def __init__(self, current: Callable[[], Tools]) -> None:
        self._current = current

    async def tools(self) -> Mapping[str, Tool]:
        """See Catalogue."""
        return self._current()
