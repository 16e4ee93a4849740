"""All engines as one: a shared process for most models, and one of its own for each that its manifest calls isolated."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.keeper import Keeper
from edge_mcp.engine.messages import Described, Item, ModelSpec, Ran
from edge_mcp.engine.status import EngineStatus, LoadedModel
from edge_mcp.engine.watch import Tell
from edge_mcp.errors import EngineError
from edge_mcp.measurements import Measurements


class Engines:
    """See client.Engine. An isolated model's crash costs the others nothing; its process has as many lanes as the shared one.

    The keeper counts over all of them.
    """

    def __init__(self, lanes: int, keeper: Keeper | None = None, measured: Measurements | None = None) -> None:
        self.changed: Callable[[], None] = lambda: None
        """Called when an engine has started or ended, or has loaded or unloaded a model."""
        self._lanes = lanes
        self._keeper = keeper or Keeper()
        self._measured = measured or Measurements()
        self._closed = False
        self._shared = self._client()
        self._isolated: dict[str, EngineClient] = {}
        self._apart: set[EngineClient] = set()

    @property
    def pid(self) -> int | None:
        """The shared engine's process id, while there is one."""
        return self._shared.pid

    @property
    def loaded(self) -> frozenset[str]:
        """The names of the models that are loaded, in whichever engine."""
        return frozenset(one.name for client in self._clients() for one in self._keeper.residents(client))

    def status(self) -> list[EngineStatus]:
        """The shared engine, and each isolated one that is running. Asking wakes nothing."""
        own = [self._status(key, client) for key, client in self._isolated.items() if client.pid is not None]
        return [self._status(None, self._shared), *own]

    def is_ready(self, model: ModelSpec) -> bool:
        """See Engine."""
        client = self._isolated.get(model.key) if _is_isolated(model) else self._shared
        return client is not None and client.is_ready(model)

    async def describe(self, path: str, signature: str = "") -> Described:
        """See Engine."""
        return await self._shared.describe(path, signature)

    async def load(self, model: ModelSpec) -> None:
        """See Engine."""
        await self._of(model).load(model)

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """See Engine."""
        return await self._of(model).run(model, items, tell)

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """See Engine."""
        return await self._of(model).measure(model)

    async def check(self) -> None:
        """Each engine that is running runs a model, see EngineClient.check. Raises: EngineError, ModelError."""
        for client in self._clients():
            await client.check()

    async def unload(self, key: str) -> None:
        """See Engine. An isolated model's process ends."""
        client = self._isolated.get(key)
        if client is None:
            await self._shared.unload(key)
            return
        await client.unload(key)
        if client.idle and not self._keeper.uses(key):
            self._isolated.pop(key, None)
            await client.end(f"{key} is not needed any more")

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[EngineClient]:
        """An engine of its own for a moment: what crashes or hangs in it costs nobody else's calls anything."""
        client = EngineClient(1, keeper=self._keeper)
        self._apart.add(client)
        try:
            yield client
        finally:
            await client.end("it was started to prove one model")
            await client.close()
            self._apart.discard(client)

    async def shrink(self, scale: float) -> None:
        """From now on keep idle models `scale` times as long as they would be (1: as set); 0: unload them now."""
        await self._keeper.shrink(scale)

    def look(self) -> None:
        """Look whether the device is short of memory, and unload what is idle if so."""
        self._keeper.look()

    async def close(self) -> None:
        """End all engines for good; requests in flight fail."""
        self._closed = True
        self._keeper.close()
        for client in [*self._clients(), *self._apart]:
            await client.close()

    def _of(self, model: ModelSpec) -> EngineClient:
        if not _is_isolated(model):
            return self._shared
        if model.key not in self._isolated:
            self._isolated[model.key] = self._client()
        return self._isolated[model.key]

    def _client(self) -> EngineClient:
        if self._closed:
            raise EngineError("the server is stopping")
        client = EngineClient(self._lanes, measured=self._measured, keeper=self._keeper)
        client.changed = self._tell
        return client

    def _clients(self) -> list[EngineClient]:
        return [self._shared, *self._isolated.values()]

    def _tell(self) -> None:
        self.changed()

    def _status(self, key: str | None, client: EngineClient) -> EngineStatus:
        models = [
            LoadedModel(
                one.key, one.name, one.version, round(one.memory_mb, 1), round(self._keeper.idle_s(one), 1), one.preload
            )
            for one in self._keeper.residents(client)
        ]
        return EngineStatus(client.pid, key, client.busy, models)


def _is_isolated(model: ModelSpec) -> bool:
    return model.manifest.resources.isolated
