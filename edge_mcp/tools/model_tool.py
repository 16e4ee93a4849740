"""A model as a tool."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from edge_mcp.context import Context
from edge_mcp.engine.client import Engine
from edge_mcp.engine.messages import Item, ModelSpec, Signature
from edge_mcp.errors import ConnectionClosed
from edge_mcp.measurements import Measurements
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.messages import ToolAnnotations, ToolDefinition, ToolResult
from edge_mcp.repository.inputs import AudioInput, TensorInput
from edge_mcp.repository.store import Entry
from edge_mcp.scheduling.batcher import Batcher
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.base import TaskUse
from edge_mcp.tools.results import output_schema
from edge_mcp.tools.turns import Turns

if TYPE_CHECKING:  # who has no sensors needs nothing of them
    from edge_mcp.tools.sensing import Sensing

MODEL = "io.edge-mcp/model"
LONG_S = 2.0
LARGE_BYTES = 1024 * 1024


class ModelTool:
    """Calls one model in the engine; see tools.base.Tool. The arguments and the result pass through encoded.

    A call that will take longer than `LONG_S`, by what was `measured`, runs as a task for a client that can follow one. So
    does a first call with tensors of more than `LARGE_BYTES`, of which nothing is known yet.
    """

    def __init__(
        self,
        entry: Entry,
        signature: Signature | None,
        engine: Engine,
        measured: Measurements | None = None,
        sensing: "Sensing | None" = None,
        batcher: Batcher | None = None,
    ) -> None:
        manifest = entry.manifest
        tool = manifest.tool
        schema = input_schema(manifest, signature)
        if sensing is not None:
            schema = sensing.described(schema)
        self.entry = entry
        self.spec = ModelSpec(entry.key, str(entry.folder), manifest, schema)
        self.definition = ToolDefinition(
            name=tool.name,
            title=tool.title or tool.name,
            description=tool.description or f"Runs the model {manifest.model.file} on tensors.",
            inputSchema=schema,
            outputSchema=output_schema(manifest),
            annotations=ToolAnnotations(title=tool.title or tool.name),
            meta=_identity(entry),
        )
        self._engine = engine
        self._batcher = batcher or Batcher(engine)
        self._measured = measured or Measurements()
        self._sensing = sensing
        self._listens = isinstance(manifest.input, AudioInput)
        self._turns = Turns()
        self._scales = isinstance(manifest.input, TensorInput)
        self._calls = 0
        self._rested: Callable[[], None] | None = None

    def task_use(self, arguments: Arguments) -> TaskUse:
        """See Tool."""
        name, size = self.entry.manifest.model.name, len(arguments.data)
        per_byte = self._measured.run_s_per_byte(name)
        if self._scales and per_byte is None:
            return "optional" if size > LARGE_BYTES else "never"
        expected_s = (per_byte or 0) * size if self._scales else self._measured.run_s(name) or 0
        if not self._engine.is_ready(self.spec):
            expected_s += self._measured.load_s(name) or 0
        if self._sensing is not None:
            expected_s += self._sensing.seconds(arguments)
        return "optional" if expected_s > LONG_S else "never"

    async def prepare(self, arguments: Arguments, context: Context) -> None:
        """See Tool: the user may have to allow a sensor."""
        if self._sensing is not None:
            await self._sensing.allow(arguments, context)

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        """See Tool."""
        self._calls += 1
        try:
            async with self._turns.of(context.peer.owner, arguments) if self._listens else nullcontext():
                return await self._call(arguments, context)
        finally:
            self._calls -= 1
            self._rest()

    def retire(self, rested: Callable[[], None]) -> None:
        """Another tool is called from now on: `rested` is called when no call is in flight here, now or later."""
        self._rested = rested
        self._rest()

    def _rest(self) -> None:
        if self._rested is not None and not self._calls:
            self._rested()

    async def _call(self, arguments: Arguments, context: Context) -> ToolResult:
        name = self.entry.manifest.model.name
        await self.prepare(arguments, context)  # no model is loaded for what is not allowed
        if not self._engine.is_ready(self.spec):
            await context.progress(0, 2, f"loading {name}")
            await self._engine.load(self.spec)
        attached = await self._sensing.attached(arguments, context) if self._sensing else {}
        await context.progress(1, 2, f"running {name}")
        teller = _Teller(name, "seconds of sound" if self._listens else "rows", context)
        item = Item(arguments.data, arguments.codec.name, roots=context.peer.roots, attached=attached, owner=context.peer.owner)
        try:
            outcome = await self._batcher.submit(
                self.spec,
                item,
                (self.entry.manifest.scheduling.deadline_ms if context.deadline_ms is None else context.deadline_ms) / 1000,
                owner=context.peer.owner,
                background=context.background,
                pure=not self._listens and not attached,
                tell=teller.tell,
            )
        finally:
            await teller.finish()
        if outcome.error:
            return ToolResult.failed(outcome.error)
        return ToolResult(msgspec.Raw(outcome.content), msgspec.Raw(outcome.structured))


def _identity(entry: Entry) -> dict[str, Any] | msgspec.UnsetType:
    """Which model it is, for who has several devices: the same one answers the same. Unset where not all digests are known.

    `sha256` is how the digest of its file begins (of a pipeline, that of all its files), `manifest` that of how it is used.
    """
    manifest = entry.manifest
    digests = [part.model.sha256 for part in manifest.parts]
    if not all(digests):
        return msgspec.UNSET
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    used = [msgspec.to_builtins(part, str_keys=True) for part in (manifest.input, manifest.output, manifest.steps)]
    mark = hashlib.sha256(msgspec.json.encode(used, order="deterministic")).hexdigest()
    model = manifest.model
    return {MODEL: {"name": model.name, "version": model.version, "sha256": digest[:16], "manifest": mark[:16]}}


class _Teller:
    """Reports how far a long run is, one report at a time: what comes while one is on its way is left out."""

    def __init__(self, name: str, unit: str, context: Context) -> None:
        self._name = name
        self._unit = unit
        self._context = context
        self._telling: asyncio.Task[None] | None = None

    def tell(self, done: int, total: int) -> None:
        """See engine.client.Tell."""
        if self._telling is None or self._telling.done():
            message = f"running {self._name}: {done} of {total} {self._unit}"
            self._telling = asyncio.create_task(self._report(1 + done / total, message))

    async def finish(self) -> None:
        """Let the last report out: none may come after the answer."""
        if self._telling is not None:
            await self._telling

    async def _report(self, done: float, message: str) -> None:
        with suppress(ConnectionClosed):
            await self._context.progress(done, 2, message)
