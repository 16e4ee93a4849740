"""A model as a tool."""

import msgspec

from edge_mcp.context import Context
from edge_mcp.engine.client import Engine
from edge_mcp.engine.messages import Item, ModelSpec, Signature
from edge_mcp.protocol.messages import ToolAnnotations, ToolDefinition, ToolResult
from edge_mcp.repository.store import Entry
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.base import TaskUse
from edge_mcp.tools.results import output_schema


class ModelTool:
    """Calls one model in the engine; see tools.base.Tool. The arguments and the result pass through encoded."""

    def __init__(self, entry: Entry, signature: Signature | None, engine: Engine) -> None:
        manifest = entry.manifest
        tool = manifest.tool
        schema = input_schema(manifest, signature)
        self.spec = ModelSpec(manifest.model.name, str(entry.folder), manifest, schema)
        self.definition = ToolDefinition(
            name=tool.name,
            title=tool.title or tool.name,
            description=tool.description or f"Runs the model {manifest.model.file} on tensors.",
            inputSchema=schema,
            outputSchema=output_schema(manifest),
            annotations=ToolAnnotations(title=tool.title or tool.name),
        )
        self._engine = engine

    def task_use(self, arguments: bytes) -> TaskUse:
        """See Tool."""
        return "never"

    async def prepare(self, arguments: bytes, context: Context) -> None:
        """See Tool: there is nothing to ask."""

    async def call(self, arguments: bytes, context: Context) -> ToolResult:
        """See Tool."""
        name = self.spec.key
        if not self._engine.is_ready(self.spec):
            await context.progress(0, 2, f"loading {name}")
            await self._engine.load(self.spec)
        await context.progress(1, 2, f"running {name}")
        ran = await self._engine.run(self.spec, [Item(arguments, roots=context.peer.roots)])
        outcome = ran.outcomes[0]
        if outcome.error:
            return ToolResult.failed(outcome.error)
        return ToolResult(msgspec.Raw(outcome.content), msgspec.Raw(outcome.structured))
