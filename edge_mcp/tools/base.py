"""The seam between the server and what can be called."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edge_mcp.protocol.messages import ToolDefinition, ToolResult
from edge_mcp.transports.base import Peer


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who calls, and how to tell them how far the call is."""

    peer: Peer
    progress: Callable[[float, float, str], Awaitable[None]]
    """`progress(done, total, message)`: sent to callers that asked for it; `done` must grow."""


class Tool(Protocol):
    """Something that can be called."""

    definition: ToolDefinition

    async def call(self, arguments: bytes, context: CallContext) -> ToolResult:
        """Do it; `arguments` is the JSON as the peer sent it. Raises: EdgeError (answered as a result with `isError`)."""
        ...


class Catalogue(Protocol):
    """The tools there are."""

    async def tools(self) -> Mapping[str, Tool]:
        """By name, in the order in which they are listed."""
        ...
