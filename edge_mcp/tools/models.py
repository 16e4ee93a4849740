"""The catalogue of all models as tools."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edge_mcp.engine.client import Engine
from edge_mcp.engine.messages import Described
from edge_mcp.errors import EdgeError, ModelError, RefusedError
from edge_mcp.measurements import Measurements
from edge_mcp.repository.inputs import Input, TensorInput
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Entry, Store
from edge_mcp.tools.base import Tool
from edge_mcp.tools.model_tool import ModelTool

if TYPE_CHECKING:
    from edge_mcp.tools.sensing import Sensing

logger = logging.getLogger(__name__)


class ModelCatalogue:
    """The models of a store; see tools.base.Catalogue.

    A tensor tool's schema needs its file's signature: known from an earlier start, or else asked of the engine before the
    first list is answered. A file that cannot be read is left out, and the log says why.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        signatures: Signatures,
        measured: Measurements | None = None,
        sensing: "Callable[[str, Input], Sensing | None]" = lambda tool, taken: None,
    ) -> None:
        self._measured = measured
        self._sensing = sensing
        self._store = store
        self._engine = engine
        self._signatures = signatures
        self._tools: dict[str, Tool] | None = None
        self._reading = asyncio.Lock()

    async def tools(self) -> Mapping[str, Tool]:
        """See Catalogue."""
        if self._tools is not None:
            return self._tools
        async with self._reading:
            tools, complete = await self._read()
            self._tools = tools if complete else None
        return tools

    async def _read(self) -> tuple[dict[str, Tool], bool]:
        """The tools, and whether these are all: what the engine could not read for its own reasons is tried again."""
        tools: dict[str, Tool] = {}
        complete = True
        for entry in self._store.entries:
            try:
                described = await self._describe(entry) if isinstance(entry.manifest.input, TensorInput) else None
            except (ModelError, RefusedError) as error:
                logger.error("%s is left out: %s", entry.file, error)
                continue
            except EdgeError as error:
                logger.error("%s is left out for now: %s", entry.file, error)
                complete = False
                continue
            sensing = self._sensing(entry.manifest.tool.name, entry.manifest.input)
            tool = ModelTool(entry, described.signature if described else None, self._engine, self._measured, sensing)
            tools[tool.definition.name] = tool
        return tools, complete

    async def _describe(self, entry: Entry) -> Described:
        signature = entry.manifest.model.signature
        described = self._signatures.get(entry.file, signature)
        if described is None:
            logger.info("reading the signature of %s", entry.file)
            described = await self._engine.describe(str(entry.file), signature)
            self._signatures.put(entry.file, described, signature)
        return described
