"""The catalogue of all models as tools."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from edge_mcp.engine.client import Engine
from edge_mcp.engine.messages import Described
from edge_mcp.errors import EdgeError, ModelError, RefusedError
from edge_mcp.measurements import Measurements
from edge_mcp.repository.inputs import Input, TensorInput
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Entry, Store
from edge_mcp.scheduling.batcher import Batcher
from edge_mcp.tools.base import Tool
from edge_mcp.tools.model_tool import ModelTool

if TYPE_CHECKING:
    from edge_mcp.tools.sensing import Sensing

logger = logging.getLogger(__name__)


class ModelCatalogue:
    """The models of a store; see tools.base.Catalogue.

    A tensor tool's schema needs its file's signature: known from an earlier start, or else asked of the engine before the
    first list is answered. A file that cannot be read is left out, and the log says why. `swap` puts another store in place;
    a model that stays as it is keeps its tool.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        signatures: Signatures,
        measured: Measurements | None = None,
        sensing: "Callable[[str, Input], Sensing | None] | None" = None,
        batcher: Batcher | None = None,
    ) -> None:
        self.released: Callable[[Entry], None] = lambda entry: None
        """Called when nobody uses a model any more that `swap` took out."""
        self._measured = measured
        self._sensing = sensing
        self._store = store
        self._engine = engine
        self._batcher = batcher or Batcher(engine)
        self._signatures = signatures
        self._tools: dict[str, Tool] | None = None
        self._made: dict[str, ModelTool] = {}  # by the model's name
        self._next: dict[str, ModelTool] = {}
        self._left_out: set[str] = set()
        self._reading = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def tools(self) -> Mapping[str, Tool]:
        """See Catalogue."""
        if self._tools is not None:
            return self._tools
        async with self._reading:
            while self._tools is None:
                store = self._store
                tools, complete = await self._read(store)
                if store is self._store:
                    self._tools = tools if complete else None
                    return tools
        return self._tools

    # ---- while it serves

    async def ready(self, entry: Entry, preload: bool) -> None:
        """Have a tool for a model whose signature is remembered, before `swap` puts it in place. It is loaded where its
        predecessor is, or with `preload`."""
        name = entry.manifest.model.name
        self._next = {name: tool} if (tool := self._known(entry)) else {}
        before = self._made.get(name)
        if tool is not None and (preload or (before is not None and self._engine.is_ready(before.spec))):
            try:
                await self._engine.load(tool.spec)
            except EdgeError as error:
                logger.warning("%s is loaded by its next call: %s", name, error)

    def swap(self, store: Store) -> bool:
        """Serve what is in `store` from now on; whether a tool has changed. Calls in flight end where they began."""
        before, self._store = self._made, store
        self._left_out &= {entry.key for entry in store.entries}
        if self._tools is None and not before:
            return True
        made = {entry.manifest.model.name: tool for entry in store.entries if (tool := self._known(entry))}
        complete = all(entry.manifest.model.name in made or entry.key in self._left_out for entry in store.entries)
        self._made, self._next = made, {}
        self._tools = {tool.definition.name: tool for tool in made.values()} if complete else None
        for name, tool in before.items():
            if made.get(name) is not tool:
                tool.retire(partial(self._rested, tool))
        return made != before

    def _rested(self, tool: ModelTool) -> None:
        leaving = asyncio.get_running_loop().create_task(self._leave(tool))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, tool: ModelTool) -> None:
        key = tool.spec.key
        if all(other.spec.key != key for other in self._made.values()):
            self._batcher.forget(key)
            try:
                await self._engine.unload(key)
            except EdgeError as error:
                logger.debug("%s: %s", key, error)  # an engine that ended meanwhile has freed the memory too
        self.released(tool.entry)

    # ---- making tools

    async def _read(self, store: Store) -> tuple[dict[str, Tool], bool]:
        """The tools, and whether these are all: what the engine could not read for its own reasons is tried again."""
        made: dict[str, ModelTool] = {}
        complete = True
        for entry in store.entries:
            if entry.key in self._left_out:
                continue
            try:
                tool = self._known(entry) or self._tool(entry, await self._describe(entry))
            except (ModelError, RefusedError) as error:
                logger.error("%s is left out: %s", entry.file, error)
                self._left_out.add(entry.key)
                continue
            except EdgeError as error:
                logger.error("%s is left out for now: %s", entry.file, error)
                complete = False
                continue
            made[entry.manifest.model.name] = tool
        if store is self._store:
            self._made = made
        return {tool.definition.name: tool for tool in made.values()}, complete

    def _known(self, entry: Entry) -> ModelTool | None:
        """A model's tool, if it can be had without reading its file."""
        for tools in (self._made, self._next):
            tool = tools.get(entry.manifest.model.name)
            if tool is not None and tool.entry == entry:
                return tool
        if not isinstance(entry.manifest.input, TensorInput):
            return self._tool(entry, None)
        described = self._signatures.get(entry.file, entry.manifest.model.signature)
        return self._tool(entry, described) if described else None

    def _tool(self, entry: Entry, described: Described | None) -> ModelTool:
        sensing = self._sensing(entry.manifest.tool.name, entry.manifest.input) if self._sensing else None
        signature = described.signature if described else None
        return ModelTool(entry, signature, self._engine, self._measured, sensing, self._batcher)

    async def _describe(self, entry: Entry) -> Described:
        signature = entry.manifest.model.signature
        logger.info("reading the signature of %s", entry.file)
        described = await self._engine.describe(str(entry.file), signature)
        self._signatures.put(entry.file, described, signature)
        return described
