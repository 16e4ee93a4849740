"""The seam between the server and what can be called."""

from collections.abc import Mapping
from typing import Literal, Protocol

from edge_mcp.context import Context
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.messages import ToolDefinition, ToolResult

TaskUse = Literal["never", "optional", "required"]


class Tool(Protocol):
    """Something that can be called."""

    definition: ToolDefinition

    def task_use(self, arguments: Arguments) -> TaskUse:
        """Whether this call runs as a task, for a client that can follow one; `required`: for no other client at all."""
        ...

    async def prepare(self, arguments: Arguments, context: Context) -> None:
        """Ask what has to be known before this call becomes a task. `call` gets the answers under the same keys.

        Raises: EdgeError; InputRequired, which ends the request with the questions.
        """
        ...

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        """Do it; what the result has encoded already is in the codec of `arguments`.

        Raises: EdgeError (answered as a result with `isError`).
        """
        ...


class Catalogue(Protocol):
    """Some tools."""

    async def tools(self) -> Mapping[str, Tool]:
        """By name, in the order in which they are listed."""
        ...
