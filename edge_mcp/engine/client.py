"""The server's side of the engine: starts it when needed, keeps it alive, and runs models on its lanes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from edge_mcp.engine.attempts import NotStarted, until_taken_up
from edge_mcp.engine.flights import Flights
from edge_mcp.engine.keeper import Keeper
from edge_mcp.engine.lanes import Lanes
from edge_mcp.engine.messages import (
    Describe,
    Described,
    Failed,
    Item,
    Load,
    Loaded,
    Measure,
    Measured,
    ModelSpec,
    NotLoaded,
    Ran,
    Reply,
    Request,
    Run,
    Unload,
    Unloaded,
)
from edge_mcp.engine.process import EngineDied, EngineProcess
from edge_mcp.engine.suspects import Suspects, fingerprint, fingerprint_of
from edge_mcp.engine.watch import Tell, Watch
from edge_mcp.errors import ChannelError, EngineError, ModelError, RefusedError
from edge_mcp.measurements import Measurements

logger = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 120.0
CHECK_S = 10.0
GRACE_S = 5.0
MAX_BACKOFF_S = 30.0


class Engine(Protocol):
    """What the tools need of an engine."""

    def is_ready(self, model: ModelSpec) -> bool:
        """Whether a run could start without loading anything."""
        ...

    async def describe(self, path: str, signature: str = "") -> Described:
        """Read a model file's signature, of several that of this name. Raises: ModelError, EngineError."""
        ...

    async def load(self, model: ModelSpec) -> None:
        """Load and warm up a model unless it is loaded. Raises: ModelError, EngineError, RefusedError."""
        ...

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """Run a batch, loading the model first if needed; one outcome for each item. `tell` hears how far a long one is.

        Raises: ModelError, EngineError (the engine died or hung), RefusedError (this request keeps killing the engine).
        """
        ...

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """Seconds of the runtime by batch size; empty where nothing can be said, or the model is not loaded any more.

        Raises: ModelError, EngineError.
        """
        ...

    async def unload(self, key: str) -> None:
        """Give a model's memory back: nobody needs this key any more. It waits for the runs that use it; one that is not
        loaded is nothing to do, and a later run loads it again. Raises: EngineError."""
        ...


class EngineClient:
    """The engine as a service: one process at a time, `lanes` runs at once, started on first need.

    An engine that dies takes nothing with it but the runs that it had taken up; each of those gets an EngineError,
    and all else is done by a new engine. New engines are started at once after the first death and with growing delay
    (up to `MAX_BACKOFF_S`) as long as none completes a request. A request that an engine crashed or hung on is under
    suspicion: it runs alone next time, and is refused from then on if the engine dies again.

    The `keeper` decides what is unloaded when, and when the process ends; it may keep several engines.
    """

    def __init__(
        self,
        lanes: int,
        grace_s: float = GRACE_S,
        start: Callable[[int], Awaitable[EngineProcess]] = EngineProcess.start,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        measured: Measurements | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.measured = measured or Measurements()
        self.changed: Callable[[], None] = lambda: None
        """Called when the engine has started or ended, or has loaded or unloaded a model."""
        self._lanes = Lanes(lanes)
        self._grace_s = grace_s
        self._start = start
        self._clock = clock
        self._sleep = sleep
        self._keeper = keeper or Keeper()
        self._process: EngineProcess | None = None
        self._ending: set[EngineProcess] = set()
        self._flights = Flights()  # single flight: starting, and loading and unloading by model key
        self._loaded: set[str] = set()
        self._suspects = Suspects()
        self._deaths = 0
        self._not_before = 0.0
        self._sequence = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The engine's process id, while there is one."""
        return self._process.pid if self._process and not self._process.ended else None

    @property
    def busy(self) -> int:
        """How many lanes are taken."""
        return self._lanes.taken

    @property
    def idle(self) -> bool:
        """Whether nothing is on a lane, nor waits for one."""
        return not (self._lanes.taken or self._lanes.waiting)

    @property
    def loaded(self) -> frozenset[str]:
        """The keys of the models that a run needs not load."""
        return frozenset(self._loaded)

    def is_ready(self, model: ModelSpec) -> bool:
        """See Engine."""
        return self.pid is not None and model.key in self._loaded

    async def describe(self, path: str, signature: str = "") -> Described:
        """See Engine."""
        work = partial(self._on_a_lane, Describe(path, signature), fingerprint(path), f"reading {path}", LOAD_TIMEOUT_S)
        reply = await until_taken_up(work, self._retry_after_ms)
        if not isinstance(reply, Described):
            raise _failure(reply)
        return reply

    async def load(self, model: ModelSpec) -> None:
        """See Engine."""

        async def once() -> None:
            await self._keeper.enter(model.key)
            try:
                await self._ready(model)
            finally:
                self._keeper.leave(model.key)

        await until_taken_up(once, self._retry_after_ms)

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """See Engine. A run that tells how far it is has its deadline anew each time."""
        known = fingerprint(model.key, items) if self._suspects else None
        limit_s = model.manifest.scheduling.deadline_ms / 1000 * len(items) + self._grace_s

        async def once() -> Reply:
            await self._keeper.enter(model.key)
            try:
                await self._ready(model)
                self._sequence += 1
                message = Run(self._sequence & 0xFFFFFFFF, model.key, list(items))
                reply = await self._on_a_lane(message, known, f"running {model.key}", limit_s, tell)
            finally:
                self._keeper.leave(model.key)
            if isinstance(reply, NotLoaded):
                self._forget(model.key)
                raise NotStarted(f"{model.key} was unloaded meanwhile")
            return reply

        reply = await until_taken_up(once, self._retry_after_ms)
        if not isinstance(reply, Ran):
            raise _failure(reply)
        if len(items) == 1:
            self.measured.ran(model.manifest.model.name, len(items[0].arguments), reply.seconds)
        return reply

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """See Engine."""
        if model.key not in self._loaded:
            return {}
        self._keeper.begin(model.key)
        try:
            what = f"measuring {model.key}"
            reply = await self._on_a_lane(Measure(model.key), fingerprint(model.key), what, LOAD_TIMEOUT_S)
        except NotStarted:
            return {}  # the engine ended meanwhile
        finally:
            self._keeper.leave(model.key)
        if isinstance(reply, NotLoaded):
            return {}
        if not isinstance(reply, Measured):
            raise _failure(reply)
        return reply.seconds

    async def check(self) -> None:
        """A canary: where the engine does nothing else, it runs a model that is loaded. One that hangs is ended by that, and
        the next call starts another; runs that are under way have a deadline of their own. Raises: EngineError, ModelError."""
        if self.pid is None or not self.idle or not self._loaded:
            return
        key = min(self._loaded)
        try:
            reply = await self._on_a_lane(Measure(key, most=1), fingerprint(key), f"checking {key}", CHECK_S)
        except NotStarted as died:
            raise EngineError(f"the engine failed its check with {key}: {died}") from died
        if not isinstance(reply, Measured | NotLoaded):
            raise _failure(reply)

    async def unload(self, key: str) -> None:
        """See Engine."""
        await self._flights.landed(("load", key))
        await self._keeper.unused(key)
        await self.drop(key)

    async def drop(self, key: str) -> None:
        """Unload a model at once; a run that has begun ends well, and one that has not loads it again. Raises: EngineError."""
        if key in self._loaded:
            self._forget(key)
            await self._flights.share(("unload", key), partial(self._unload, key))

    async def end(self, why: str) -> None:
        """End the process, if there is one; the next request starts another. Requests that it has taken up fail."""
        process, self._process = self._process, None
        if process is None or process.ended is not None:
            return
        logger.info("the engine ends: %s", why)
        self._gone()
        self._ending.add(process)
        try:
            await process.stop(why)
        finally:
            self._ending.discard(process)

    async def close(self) -> None:
        """End the engine for good; requests in flight fail."""
        self._closed = True
        self._flights.cancel()
        await self.end("the server is stopping")
        for process in list(self._ending):
            await process.stop("the server is stopping")

    async def _ready(self, model: ModelSpec) -> None:
        """Load a model unless it is loaded."""
        await self._flights.landed(("unload", model.key))
        if not self.is_ready(model):
            await self._flights.share(("load", model.key), partial(self._load, model))

    async def _load(self, model: ModelSpec) -> None:
        async with self._keeper.room(model, self):
            reply = await self._on_a_lane(Load(model), fingerprint(model.key), f"loading {model.key}", LOAD_TIMEOUT_S)
            if not isinstance(reply, Loaded):
                raise _failure(reply)
            if self.pid is None:
                raise NotStarted("the engine ended as soon as it had loaded the model")
            self._loaded.add(model.key)
            await self._keeper.loaded(model, self, reply)
        self.measured.loaded(model.manifest.model.name, reply.seconds, reply.memory_mb)
        self.changed()
        logger.info("%s loaded in %.0f ms, %.1f MB", model.key, reply.seconds * 1000, reply.memory_mb)

    async def _unload(self, key: str) -> None:
        try:
            reply = await self._on_a_lane(Unload(key), fingerprint(key), f"unloading {key}", LOAD_TIMEOUT_S)
        except NotStarted:
            return  # the engine ended meanwhile: its memory is back
        if not isinstance(reply, Unloaded):
            raise _failure(reply)
        self.changed()
        logger.info("%s unloaded", key)

    def _forget(self, key: str) -> None:
        self._loaded.discard(key)
        self._keeper.unloaded(key)

    async def _on_a_lane(
        self, message: Request, known: bytes | None, what: str, limit_s: float, tell: Tell | None = None
    ) -> Reply:
        """Send `message` on an idle lane and return the reply; `known` is its fingerprint where one is needed.

        The lane stays taken until the engine has answered, even when the caller is cancelled meanwhile.
        Raises: EngineError, RefusedError, NotStarted (see `_died`).
        """
        self._suspects.check(known, what)
        lanes = await self._lanes.acquire(alone=known in self._suspects)
        try:
            process = await self._running()
            if isinstance(message, Run) and message.key not in self._loaded:
                raise NotStarted("the engine was restarted meanwhile")
        except BaseException:
            self._lanes.release(lanes)
            raise
        watch = Watch(limit_s, partial(process.kill, f"{what} took longer than {limit_s:g} s"), tell)
        watch.start()
        used = message.key if isinstance(message, Run) else None
        if used is not None:
            self._keeper.begin(used)
        finished = partial(self._finished, lanes, watch, used)
        try:
            reply = await process.lanes[lanes[0]].request(message, watch.progress, finished)
        except ChannelError as error:
            finished()
            raise RefusedError(str(error), "Send fewer or smaller items") from error
        except EngineDied as died:
            raise self._died(died, message, what) from died
        self._suspects.clear(known)
        self._deaths = 0
        return reply

    def _finished(self, lanes: list[int], watch: Watch, used: str | None) -> None:
        watch.stop()
        self._lanes.release(lanes)
        if used is not None:
            self._keeper.leave(used)
        self._keeper.rested(self)

    def _died(self, died: EngineDied, message: Request, what: str) -> EngineError:
        """What the death means to the request: a run that was taken up has failed, all else can be done again."""
        known = fingerprint_of(message)
        if died.started and died.blame:
            self._suspects.blame(known, died.reason)
        if not died.started or (not isinstance(message, Run) and not self._suspects.is_refused(known)):
            return NotStarted(died.reason)
        return EngineError(f"{what} failed: {died.reason}", "Call again: a new engine is started", self._retry_after_ms())

    async def _running(self) -> EngineProcess:
        """The engine, started if there is none. Raises: EngineError."""
        if self._closed:
            raise EngineError("the server is stopping")
        if self._process is None or self._process.ended is not None:
            await self._flights.share("start", self._start_engine)
        assert self._process is not None  # noqa: S101 - narrows the type for mypy
        return self._process

    async def _start_engine(self) -> None:
        if (wait := self._not_before - self._clock()) > 0:
            logger.warning("starting a new engine in %.1f s, after %d in a row ended early", wait, self._deaths)
            await self._sleep(wait)
        self._process = process = await self._start(self._lanes.count)
        process.exited.add_done_callback(partial(self._on_exit, process))
        self._keeper.started(self)
        self.changed()

    def _on_exit(self, process: EngineProcess, _exited: "asyncio.Future[None]") -> None:
        if process is not self._process:
            return  # it was ended on purpose
        self._deaths += 1
        delay = 0.0 if self._deaths == 1 else min(MAX_BACKOFF_S, 0.25 * 2.0 ** (self._deaths - 2))
        self._not_before = self._clock() + delay
        self._gone()

    def _gone(self) -> None:
        self._loaded.clear()
        self._keeper.ended(self)
        self.changed()

    def _retry_after_ms(self) -> int:
        return max(0, round((self._not_before - self._clock()) * 1000))


def _failure(reply: Reply) -> Exception:
    if isinstance(reply, Failed):
        return ModelError(reply.message, reply.hint)
    return EngineError(f"the engine answered with {type(reply).__name__}")
