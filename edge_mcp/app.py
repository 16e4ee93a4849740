"""Puts the rooms together: the only module besides the command line that knows them all."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import edge_mcp
from edge_mcp.advertising import Advertising, Offer
from edge_mcp.changes import PROMPTS, RESOURCES, TOOLS, updated
from edge_mcp.config import Config, cache_folder, taken_up
from edge_mcp.engine.engines import Engines
from edge_mcp.engine.keeper import Keeper
from edge_mcp.engine.memory import DeviceMemory
from edge_mcp.engine.room import Limits
from edge_mcp.errors import ConfigError, EdgeError
from edge_mcp.listeners import Listeners, Opened, listeners
from edge_mcp.load.device import Change, DeviceLoad
from edge_mcp.measurements import Measurements
from edge_mcp.prompts.base import Prompts
from edge_mcp.prompts.device import NAMES, DevicePrompts
from edge_mcp.prompts.functions import FunctionPrompts
from edge_mcp.prompts.joined import JoinedPrompts
from edge_mcp.protocol.messages import Implementation
from edge_mcp.reloading import reloading
from edge_mcp.repository.live import Repository
from edge_mcp.repository.manifest import DEVICE_STATUS
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Store
from edge_mcp.resources.base import Resources
from edge_mcp.resources.device import MODEL, STATUS, DeviceResources
from edge_mcp.resources.functions import FunctionResources
from edge_mcp.resources.joined import JoinedResources
from edge_mcp.resources.load import LOAD, LoadResources
from edge_mcp.scheduling.batcher import Batcher
from edge_mcp.scheduling.curves import Curves
from edge_mcp.server import Server
from edge_mcp.systemd import Manager, signalled, watchdog
from edge_mcp.tools.base import Catalogue
from edge_mcp.tools.device import DeviceTools
from edge_mcp.tools.functions import FunctionTools
from edge_mcp.tools.joined import JoinedTools
from edge_mcp.tools.models import ModelCatalogue
from edge_mcp.tools.preload import preload
from edge_mcp.tools.proving import ModelProver
from edge_mcp.transports.keepalive import Pace

if TYPE_CHECKING:
    from edge_mcp.repository.inputs import Input
    from edge_mcp.sensors.access import SensorAccess
    from edge_mcp.tools.sensing import Sensing

logger = logging.getLogger(__name__)

DRAIN_S = 4.0
INFO = Implementation("edge-mcp", edge_mcp.__version__, "edge-mcp")
INSTRUCTIONS = (
    "Small machine-learning models that run on this device. Pictures, texts and bytes are given inline as base64 or text."
)


@dataclass(frozen=True, slots=True)
class Own:
    """What is served beside the models: written in Python by whoever embeds edge-mcp."""

    tools: FunctionTools
    resources: FunctionResources
    prompts: FunctionPrompts

    @classmethod
    def beside(cls, repository: Repository | None) -> "Own":
        """Nothing yet; names that the models and the device's own features have are refused."""
        if repository is None:
            return cls(FunctionTools(), FunctionResources(), FunctionPrompts())
        tools = FunctionTools(_ToolNames(repository))
        repository.taken = tools.has
        return cls(tools, FunctionResources((STATUS, MODEL, LOAD)), FunctionPrompts(NAMES))


@dataclass(frozen=True, slots=True)
class _ToolNames:
    """The names of the models' tools, as they are at the moment, and of the device's own."""

    repository: Repository

    def __contains__(self, name: object) -> bool:
        return name == DEVICE_STATUS or any(entry.manifest.tool.name == name for entry in self.repository.store.entries)


class App:
    """A device that serves: `own` tools, resources and prompts, and beside them the models, if there is a `repository`."""

    def __init__(
        self,
        config: Config,
        repository: Repository | None,
        own: Own | None = None,
        info: Implementation = INFO,
        instructions: str = INSTRUCTIONS,
        load: DeviceLoad | None = None,
    ) -> None:
        measured = Measurements()
        self._load = load or DeviceLoad(config.lane_count())
        self._measured = measured
        self._config = config
        self._note = ""
        self.up = asyncio.Event()
        """Set once peers can connect."""
        self._listeners: Listeners | None = None
        self._advertising: Advertising | None = None
        self._batcher: Batcher | None = None
        self._repository = repository
        self._adapting: set[asyncio.Task[None]] = set()
        self._background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._engine = Engines(config.lane_count(), _keeper(config), measured)
        tools: list[Catalogue] = [own.tools] if own else []
        resources: list[Resources] = [own.resources] if own else []
        prompts: list[Prompts] = [own.prompts] if own else []
        access: SensorAccess | None = None
        sensing: Callable[[str, Input], Sensing | None] | None = None
        if config.sensors:  # where there are none, nothing is imported
            from edge_mcp.resources.sensors import SensorResources
            from edge_mcp.tools.sensing import configured

            access, sensing = configured(config)
            resources.insert(0, SensorResources(access))
            instructions = f"{instructions} {access.sensors.sentence}".strip()
        if repository is not None:
            store = repository.store
            signatures = Signatures(cache_folder() / "signatures")
            device = DeviceResources(
                store, self._engine, signatures, measured, temperature_c=lambda: self._load.sample().load.temperature_c
            )
            self._batcher = batcher = Batcher(
                self._engine,
                self._load.allowed,
                Curves(cache_folder() / "curves"),
                lambda: self._load.budget().background,
                measured,
            )
            models = ModelCatalogue(store, self._engine, signatures, measured, sensing, batcher)
            load_told = LoadResources(self._load, work=lambda: (batcher.queued, batcher.running), links=measured.links)
            tools[:0] = [models, DeviceTools(partial(self._told, load_told))]
            resources[:0] = [device, load_told]
            asking = DevicePrompts(store, device.text, access.sensors.pictures if access else ())
            prompts.insert(0, asking)
            models.released = repository.released
            repository.changed.append(partial(self._swap, models, device, asking))
            prover = ModelProver(models, self._engine, signatures, config.preload)
            self._background = [
                partial(preload, store, models, self._engine, config.preload),
                partial(repository.follow, prover),
            ]
        self._info = info
        self._tools = JoinedTools(tools)
        self.server = Server(
            info, self._tools, JoinedResources(resources), JoinedPrompts(prompts), instructions, measured=measured
        )
        self._engine.changed = self._engines_changed
        self._load.changed = self._adapt
        self._load.pressed = self._engine.look
        self.server.changes.wanted = self._wanted

    async def serve(
        self,
        config: Config,
        stdio: bool,
        network: bool,
        say: Callable[[str], None],
        stop: Awaitable[object],
        greeting: str = "",
        manager: Manager | None = None,
    ) -> None:
        """Serve until the stdio host is done or `stop` is; `say` tells the user what happens, and so hears the service
        `manager`. Raises: EdgeError."""
        manager = manager or Manager({})
        sockets = manager.sockets()
        if config.exit_idle_s and not sockets:
            raise ConfigError(
                "exit_idle_s is for a server that systemd starts for its socket: nobody else would start it again",
                "Enable edge-mcp.socket, or take the setting away",
            )
        self._config = config
        self._advertising = Advertising(config, self._offer)
        self._listeners = listeners(
            self._advertised(config),
            stdio,
            network,
            self.server,
            say,
            self._metrics,
            self._pace,
            self._deflate,
            self._measured.links,
            sockets,
            partial(self._ready, manager, greeting),
        )
        if greeting:
            say(greeting)
        tasks = [asyncio.create_task(listener.listen(self.server.serve)) for listener in self._listeners.all]
        background = [asyncio.create_task(work()) for work in self._background]
        if manager.watchdog_s:
            background.append(asyncio.create_task(watchdog(manager, partial(self._check, manager))))
        stopped = asyncio.ensure_future(stop)
        if config.exit_idle_s:
            tasks.append(asyncio.create_task(self.server.quiet(config.exit_idle_s)))
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            manager.stopping()
            await self._advertising.close()
            await self.server.drain(DRAIN_S)
            for task in done:
                task.result()
        finally:
            for task in [*tasks, *background, stopped]:
                task.cancel()
            await self._advertising.close()
            await asyncio.gather(*tasks, *background, stopped, return_exceptions=True)
            await self._engine.close()
            self._load.close()

    async def take_up(self, reread: Callable[[], Config]) -> Config:
        """Serve by the settings that `reread` gives, as far as can be without a restart (config.LIVE); those that hold then.
        Raises: EdgeError; then all stays as it was."""
        before, advertising = self._config, self._advertising
        try:
            now, later = taken_up(before, reread())
            self._advertising = advertising if _said(now) == _said(before) else Advertising(now, self._offer)
            opened = self._listeners.take_up(self._advertised(now)) if self._listeners else None
        except EdgeError as error:
            self._advertising = advertising
            self._note = f"; the settings stay as they were: {error}"
            raise
        self._config = now
        self._note = f"; {', '.join(later)} of the settings: after a restart" if later else ""
        if later:
            logger.warning("these settings take effect after a restart: %s", ", ".join(later))
        if self._advertising is not advertising:
            if advertising is not None:
                await advertising.close()
            if self._advertising is not None and opened is not None:
                self._advertising.start(opened, self.server.changes)
        return now

    async def status(self) -> str:
        """One line on how the device is, for systemd."""
        heat = self._load.sample().load.temperature_c
        warm = "" if heat is None else f", {heat:.0f} °C"
        state = self._load.governor.state.name.lower()
        return f"{len(await self._tools.tools())} tools, state {state}{warm}{self._note}"

    async def _check(self, manager: Manager) -> None:
        """The engine runs a model, and systemd is told how the device is. Raises: EngineError, ModelError."""
        await self._engine.check()
        manager.status(await self.status())

    def _advertised(self, config: Config) -> Config:
        """With the name that peers call this machine by which found it."""
        return replace(config, hosts=(*config.hosts, *self._advertising.hosts)) if self._advertising else config

    def _ready(self, manager: Manager, greeting: str, opened: Opened | None) -> None:
        """Peers can connect."""
        manager.ready(greeting)
        self.up.set()
        if opened is not None and self._advertising is not None:
            self._advertising.start(opened, self.server.changes)

    async def _offer(self) -> Offer:
        """What is advertised."""
        tools = [tool.definition for tool in (await self._tools.tools()).values()]
        entries = self._repository.store.entries if self._repository else ()
        kinds = {str(part.input.__struct_config__.tag) for entry in entries for part in entry.manifest.parts}
        return Offer(tools, tuple(kinds), self._load.governor.state.value)

    def _pace(self) -> Pace:
        """How often peers are asked whether they are there."""
        stretch = self._load.stretch()
        return Pace(stretch, self._load.governor.state.name.lower())

    def _deflate(self) -> str:
        """How far messages may be compressed."""
        return self._load.budget().deflate

    def _metrics(self) -> str:
        """What `/metrics` says."""
        from edge_mcp.metrics import Snapshot, rendered
        from edge_mcp.resources import probe

        entries = self._repository.store.entries if self._repository else ()
        engines = self._engine.status()
        batcher = self._batcher
        return rendered(
            Snapshot(
                versions={entry.manifest.model.name: entry.manifest.model.version for entry in entries},
                measured=self._measured,
                sample=self._load.sample(),
                state=self._load.governor.state,
                queued=batcher.queued if batcher else 0,
                running=batcher.running if batcher else 0,
                lanes=self._load.governor.budget.lanes,
                loaded={model.name: model.memory_mb for engine in engines for model in engine.models},
                server_mb=probe.resident_mb(os.getpid()),
                engine_mb=sum(probe.resident_mb(engine.pid) or 0 for engine in engines if engine.pid is not None),
                connections=self.server.connections,
                links=self._measured.links,
            )
        )

    def _told(self, load: LoadResources) -> dict[str, Any]:
        """What the tool `device_status` says."""
        return {
            **load.told(),
            "models": [
                {"name": model.name, "version": model.version, "memory_mb": model.memory_mb}
                for engine in self._engine.status()
                for model in engine.models
            ],
            "calls": {"answered": self._measured.answered, "failed": self._measured.failed},
        }

    def _engines_changed(self) -> None:
        """An engine has started or ended, or a model is loaded or not any more."""
        self._load.held(any(engine.pid is not None for engine in self._engine.status()))
        self.server.changes.tell(updated(STATUS))

    def _wanted(self, uri: str, on: bool) -> None:
        """Somebody wants to hear of a resource from now on, or nobody does any more."""
        if uri == LOAD:
            self._load.listened(on)

    def _adapt(self, change: Change) -> None:
        """The device's state is another one: models stay for another time, and who listens is told."""
        self.server.changes.tell(updated(LOAD))
        if self._advertising is not None:
            self._advertising.changed()
        task = asyncio.ensure_future(self._engine.shrink(self._load.governor.budget.kept))
        self._adapting.add(task)
        task.add_done_callback(self._adapting.discard)

    def _swap(
        self, models: ModelCatalogue, device: DeviceResources, prompts: DevicePrompts, before: Store, store: Store
    ) -> None:
        """Serve other models from now on, and tell what has changed by it."""
        if models.swap(store):
            self.server.changes.tell(TOOLS)
        if device.swap(store):
            self.server.changes.tell(RESOURCES)
        if prompts.swap(store):
            self.server.changes.tell(PROMPTS)
        keys = {entry.manifest.model.name: entry.key for entry in before.entries}
        for entry in store.entries:
            name = entry.manifest.model.name
            if keys.get(name, entry.key) != entry.key:
                self.server.changes.tell(updated(MODEL + name))
        self.server.changes.tell(updated(STATUS))

    async def close(self) -> None:
        """End all connections, tasks and the engine."""
        await self.server.drain(0)
        await self._engine.close()
        self._load.close()


async def serve(
    config: Config, stdio: bool, network: bool, say: Callable[[str], None], reread: Callable[[], Config] | None = None
) -> None:
    """Serve the models until the stdio host is done, or SIGTERM or SIGINT. `reread` gives the settings as they are now, for
    SIGHUP. Raises: EdgeError."""
    stop = signalled()
    manager = Manager()
    repository = found(config)
    store = repository.store
    greeting = f"edge-mcp {edge_mcp.__version__}: {len(store.entries)} models in {', '.join(map(str, store.folders))}"
    app = App(config, repository)
    with reloading(app.take_up, app.status, repository.rescan, manager, app.up, reread or (lambda: config)):
        await app.serve(config, stdio, network, say, stop, greeting, manager)


def _said(config: Config) -> tuple[object, ...]:
    """What a device says of itself in the network depends on these."""
    return config.name, config.mdns, config.mdns_interfaces, config.tls_certificate, config.tls_key


def _keeper(config: Config) -> Keeper:
    """What the settings say of how long models stay, and in how much memory."""
    limits = Limits.of(DeviceMemory(), config.memory_mb)
    return Keeper(config.keep_loaded_s, frozenset(config.preload), limits)


def found(config: Config) -> Repository:
    """The configured models; what is wrong with a model is logged, and the others are served. Raises: ManifestError."""
    awaited = config.awaited_folder()
    optional = () if awaited is None else (awaited,)
    repository = Repository((*optional, *config.model_folders()), optional)
    for problem in repository.store.problems:
        logger.error("%s", problem)
    return repository
