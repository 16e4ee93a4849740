"""Proves models in an engine of their own before they are served: what crashes or hangs there costs no call."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol, TypeVar

from msgspec.structs import replace

from edge_mcp.engine.client import Engine
from edge_mcp.engine.messages import Described
from edge_mcp.errors import EngineError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Entry
from edge_mcp.tools.model_tool import ModelTool
from edge_mcp.tools.models import ModelCatalogue

T = TypeVar("T")


class Engines(Protocol):
    """Who can start an engine for a moment."""

    def apart(self) -> AbstractAsyncContextManager[Engine]:
        """An engine that nobody else uses."""
        ...


class ModelProver:
    """See repository.parts.Prover. `preload` names the models that are loaded before they are called."""

    def __init__(
        self, catalogue: ModelCatalogue, engines: Engines, signatures: Signatures, preload: Collection[str] = ()
    ) -> None:
        self._catalogue = catalogue
        self._engines = engines
        self._signatures = signatures
        self._preload = preload
        self._described: dict[str, Described] = {}

    async def prove(self, entry: Entry) -> None:
        """See Prover."""
        described: Described | None = None
        async with self._engines.apart() as engine:
            if isinstance(entry.manifest.input, TensorInput):
                describe = partial(engine.describe, str(entry.file), entry.manifest.model.signature)
                described = await _twice(describe)
            tool = ModelTool(entry, described.signature if described else None, engine)
            await _twice(partial(engine.load, replace(tool.spec, key=f"{entry.key} on trial")))
        self._described = {entry.key: described} if described else {}

    async def ready(self, entry: Entry) -> None:
        """See Prover."""
        model = entry.manifest.model
        if described := self._described.pop(entry.key, None):
            self._signatures.put(entry.file, described, model.signature)
        await self._catalogue.ready(entry, entry.manifest.resources.preload or model.name in self._preload)


async def _twice(work: Callable[[], Awaitable[T]]) -> T:
    """The engine that something has ended says on the second time whether it was this. Raises: what `work` raises."""
    try:
        return await work()
    except EngineError:
        return await work()
