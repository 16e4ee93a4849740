"""The server's side of the engine: starts it when needed, keeps it alive, and runs models on its lanes."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Protocol, TypeVar

from edge_mcp.engine.lanes import Lanes
from edge_mcp.engine.messages import (
    Describe,
    Described,
    Failed,
    Item,
    Load,
    Loaded,
    ModelSpec,
    NotLoaded,
    Progress,
    Ran,
    Reply,
    Request,
    Run,
    Unload,
    Unloaded,
)
from edge_mcp.engine.process import EngineDied, EngineProcess
from edge_mcp.errors import ChannelError, EngineError, ModelError, RefusedError
from edge_mcp.measurements import Measurements

logger = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 120.0
GRACE_S = 5.0
MAX_BACKOFF_S = 30.0
REMEMBERED_SUSPECTS = 256
ATTEMPTS = 8
"""How many engines may end in a row before a request is taken up, until it fails: with the back-off, in some 15 s."""

T = TypeVar("T")
Tell = Callable[[int, int], None]
"""Hears how many rows of how many are done."""


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
    """

    def __init__(
        self,
        lanes: int,
        grace_s: float = GRACE_S,
        start: Callable[[int], Awaitable[EngineProcess]] = EngineProcess.start,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        measured: Measurements | None = None,
    ) -> None:
        self.measured = measured or Measurements()
        self.changed: Callable[[], None] = lambda: None
        """Called when the engine has started or ended, or has loaded a model."""
        self._lanes = Lanes(lanes)
        self._grace_s = grace_s
        self._start = start
        self._clock = clock
        self._sleep = sleep
        self._process: EngineProcess | None = None
        self._shared: dict[str, asyncio.Task[None]] = {}  # single flight: starting, and loading by model key
        self._loaded: set[str] = set()
        self._suspects: OrderedDict[bytes, str] = OrderedDict()  # fingerprint -> how the engine ended
        self._refused: OrderedDict[bytes, str] = OrderedDict()
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
    def loaded(self) -> frozenset[str]:
        """The keys of the models that a run needs not load."""
        return frozenset(self._loaded)

    def is_ready(self, model: ModelSpec) -> bool:
        """See Engine."""
        return self.pid is not None and model.key in self._loaded

    async def describe(self, path: str, signature: str = "") -> Described:
        """See Engine."""
        work = partial(self._on_a_lane, Describe(path, signature), _fingerprint(path, ()), f"reading {path}", LOAD_TIMEOUT_S)
        reply = await self._until_taken_up(work)
        if not isinstance(reply, Described):
            raise _failure(reply)
        return reply

    async def load(self, model: ModelSpec) -> None:
        """See Engine."""
        if not self.is_ready(model):
            await self._until_taken_up(partial(self._single_flight, model.key, partial(self._load, model)))

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """See Engine. A run that tells how far it is has its deadline anew each time."""
        fingerprint = _fingerprint(model.key, items) if self._suspects or self._refused else None
        limit_s = model.manifest.scheduling.deadline_ms / 1000 * len(items) + self._grace_s

        async def once() -> Reply:
            await self.load(model)
            self._sequence += 1
            message = Run(self._sequence & 0xFFFFFFFF, model.key, list(items))
            reply = await self._on_a_lane(message, fingerprint, f"running {model.key}", limit_s, tell)
            if isinstance(reply, NotLoaded):
                self._loaded.discard(model.key)
                raise _NotStarted(f"{model.key} was unloaded meanwhile")
            return reply

        reply = await self._until_taken_up(once)
        if not isinstance(reply, Ran):
            raise _failure(reply)
        if len(items) == 1:
            self.measured.ran(model.key, len(items[0].arguments), reply.seconds)
        return reply

    async def unload(self, key: str) -> None:
        """See Engine."""
        if key not in self._loaded:
            return
        self._loaded.discard(key)
        try:
            reply = await self._on_a_lane(Unload(key), _fingerprint(key, ()), f"unloading {key}", LOAD_TIMEOUT_S)
        except _NotStarted:
            return  # the engine ended meanwhile: its memory is back
        if not isinstance(reply, Unloaded):
            raise _failure(reply)
        self.changed()
        logger.info("%s unloaded", key)

    async def close(self) -> None:
        """End the engine; requests in flight fail."""
        self._closed = True
        for task in self._shared.values():
            task.cancel()
        if self._process is not None and self._process.ended is None:
            await self._process.stop()

    async def _until_taken_up(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` again as long as engines end before they take it up, `ATTEMPTS` times. Raises: EngineError."""
        for _ in range(ATTEMPTS - 1):
            try:
                return await work()
            except _NotStarted as error:
                logger.debug("once more: %s", error)
        try:
            return await work()
        except _NotStarted as error:
            raise EngineError(str(error), "Call again: a new engine is started", self._retry_after_ms()) from error

    async def _load(self, model: ModelSpec) -> None:
        reply = await self._on_a_lane(Load(model), _fingerprint(model.key, ()), f"loading {model.key}", LOAD_TIMEOUT_S)
        if not isinstance(reply, Loaded):
            raise _failure(reply)
        self._loaded.add(model.key)
        self.measured.loaded(model.key, reply.seconds)
        self.changed()
        logger.info("%s loaded in %.0f ms", model.key, reply.seconds * 1000)

    async def _on_a_lane(
        self, message: Request, fingerprint: bytes | None, what: str, limit_s: float, tell: Tell | None = None
    ) -> Reply:
        """Send `message` on an idle lane and return the reply.

        The lane stays taken until the engine has answered, even when the caller is cancelled meanwhile.
        Raises: EngineError, RefusedError, _NotStarted (see `_died`).
        """
        self._check_refused(fingerprint, what)
        lanes = await self._lanes.acquire(alone=fingerprint in self._suspects)
        try:
            process = await self._running()
            if isinstance(message, Run) and message.key not in self._loaded:
                raise _NotStarted("the engine was restarted meanwhile")
            watch = _Watch(limit_s, partial(process.kill, f"{what} took longer than {limit_s:g} s"), tell)
            future = process.lanes[lanes[0]].request(message, watch.progress)
        except ChannelError as error:
            self._lanes.release(lanes)
            raise RefusedError(str(error), "Send fewer or smaller items") from error
        except BaseException:
            self._lanes.release(lanes)
            raise
        watch.start()
        future.add_done_callback(partial(self._finished, lanes, watch))
        try:
            reply = await asyncio.shield(future)
        except EngineDied as died:
            raise self._died(died, message, what) from died
        if fingerprint is not None:
            self._suspects.pop(fingerprint, None)
        self._deaths = 0
        return reply

    def _finished(self, lanes: list[int], watch: "_Watch", future: "asyncio.Future[Reply]") -> None:
        watch.stop()
        self._lanes.release(lanes)
        future.exception()  # marks it as seen: a cancelled caller does not come back for it

    def _died(self, died: EngineDied, message: Request, what: str) -> EngineError:
        """What the death means to the request: a run that was taken up has failed, all else can be done again."""
        fingerprint = _fingerprint_of(message)
        if died.started and died.blame:
            self._suspect(fingerprint, died.reason)
        if not died.started or (not isinstance(message, Run) and fingerprint not in self._refused):
            return _NotStarted(died.reason)
        return EngineError(f"{what} failed: {died.reason}", "Call again: a new engine is started", self._retry_after_ms())

    def _suspect(self, fingerprint: bytes, reason: str) -> None:
        """The engine ended on this request: the first time it may have been another's fault, the second time it ran alone."""
        book = self._refused if self._suspects.pop(fingerprint, None) else self._suspects
        book[fingerprint] = reason
        while len(book) > REMEMBERED_SUSPECTS:
            book.popitem(last=False)

    def _check_refused(self, fingerprint: bytes | None, what: str) -> None:
        if fingerprint is not None and (reason := self._refused.get(fingerprint)):
            raise RefusedError(
                f"{what} with this very input is refused, because it ended the engine twice: {reason}",
                "Send another input; restarting edge-mcp clears this",
            )

    async def _running(self) -> EngineProcess:
        """The engine, started if there is none. Raises: EngineError."""
        if self._closed:
            raise EngineError("the server is stopping")
        if self._process is None or self._process.ended is not None:
            await self._single_flight("", self._start_engine)
        assert self._process is not None  # noqa: S101 - narrows the type for mypy
        return self._process

    async def _start_engine(self) -> None:
        if (wait := self._not_before - self._clock()) > 0:
            logger.warning("starting a new engine in %.1f s, after %d in a row ended early", wait, self._deaths)
            await self._sleep(wait)
        self._process = process = await self._start(self._lanes.count)
        process.exited.add_done_callback(self._on_exit)
        self.changed()

    def _on_exit(self, _exited: "asyncio.Future[None]") -> None:
        self._loaded.clear()
        self._deaths += 1
        delay = 0.0 if self._deaths == 1 else min(MAX_BACKOFF_S, 0.25 * 2.0 ** (self._deaths - 2))
        self._not_before = self._clock() + delay
        self.changed()

    def _retry_after_ms(self) -> int:
        return max(0, round((self._not_before - self._clock()) * 1000))

    async def _single_flight(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` once for all who ask for `key` meanwhile; a caller's cancellation does not stop it for the others."""
        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.ensure_future(_awaited(work))
            task.add_done_callback(lambda done: (self._shared.pop(key, None), done.cancelled() or done.exception()))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise EngineError("the server is stopping") from None
            raise


class _Watch:
    """Calls `hung` when a request has neither ended nor told of progress for `limit_s`."""

    def __init__(self, limit_s: float, hung: Callable[[], None], tell: Tell | None) -> None:
        self._limit_s = limit_s
        self._hung = hung
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._hung)

    def progress(self, progress: Progress) -> None:
        self.stop()
        self.start()
        if self._tell is not None:
            self._tell(progress.done, progress.total)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _NotStarted(EngineError):
    """The engine ended without harm to the request, which can be done once more."""


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _failure(reply: Reply) -> Exception:
    if isinstance(reply, Failed):
        return ModelError(reply.message, reply.hint)
    return EngineError(f"the engine answered with {type(reply).__name__}")


def _fingerprint_of(message: Request) -> bytes:
    match message:
        case Describe(path=path):
            return _fingerprint(path, ())
        case Load(model=model):
            return _fingerprint(model.key, ())
        case Unload(key=key):
            return _fingerprint(key, ())
        case Run(key=key, items=items):
            return _fingerprint(key, items)


def _fingerprint(key: str, items: Sequence[Item]) -> bytes:
    """What makes two requests the same; of a load or describe the key alone."""
    digest = blake2b(key.encode(), digest_size=16)
    for item in items:
        digest.update(len(item.arguments).to_bytes(8))
        digest.update(item.arguments)
    return digest.digest()
