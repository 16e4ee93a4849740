"""Gives calls to the engine: at once while a lane is idle, else in batches; computes twins once; refuses what would be late."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_mcp.engine.messages import Item, ModelSpec, Outcome, Ran
from edge_mcp.engine.watch import Tell
from edge_mcp.errors import BusyError, EdgeError, EngineError
from edge_mcp.measurements import Measurements
from edge_mcp.scheduling.curves import Curves
from edge_mcp.scheduling.knee import HOP_S, Curve, Service
from edge_mcp.scheduling.policy import Allowed, Call, Refusal, Scheduler

logger = logging.getLogger(__name__)

_WORDS = {
    "deadline": "the device is busy: this call would be done only after its deadline",
    "thermal": "the device is hot or low on power, and takes less work: this call would be done only after its deadline",
    "memory": "the device is short of memory, and takes less work: this call would be done only after its deadline",
    "queue": "the device is busy: too many calls wait",
}


QUIET_S = 0.5
"""A model that is new here is measured when nothing has been run for so long."""


PATIENCE_S = 2.0
"""And under load without a pause after so long: before, no batches are made of it."""


_UNLIMITED = Allowed(2**16)
_Twin = tuple[str, str, "bytes | _Large", tuple[str, ...]]
_SMALL = 65536


class Runner(Protocol):
    """What the batcher needs of an engine; see engine.client.Engine."""

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """Seconds of the runtime by batch size."""
        ...

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """One outcome for each item."""
        ...


_Caller = asyncio.Future[Outcome | None]
_End = Outcome | Exception | None
"""What came of a call; None: it was not run, for it would have been late."""


class _Large:
    """Arguments that take long to hash: a tensor, a picture. Those of one length and of the same edges are compared."""

    __slots__ = ("_data", "_hash")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._hash = hash((len(data), data[:256], data[-256:]))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Large) and self._data == other._data


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call as the batcher keeps it, with the callers that wait for its one outcome. Of one that runs in its own caller's task
    that caller is not among them. `passed`: the twin that is run in its place."""

    spec: ModelSpec
    item: Item
    twin: _Twin | None
    owner: str
    tell: Tell | None
    began: float
    deadline: float
    callers: list[_Caller] = field(default_factory=list)
    runs: bool = False
    passed: Call | None = None
    ended: _End = None

    def end(self, how: _End) -> None:
        """Tell all callers."""
        self.ended = how
        for caller in self.callers:
            if caller.done():
                continue
            if isinstance(how, Exception):
                caller.set_exception(how)
            else:
                caller.set_result(how)

    def outcome(self) -> Outcome | None:
        """What has come of it. Raises: what its run raised."""
        if isinstance(self.ended, Exception):
            raise self.ended
        return self.ended


class Batcher:
    """All calls of all models before one budget of lanes; see scheduling.policy. `allowed` is asked at each call.

    What a model's batches cost is measured at the first quiet moment after its first run here, if `may_measure` then, and kept
    in `curves`.
    """

    def __init__(
        self,
        engine: Runner,
        allowed: Callable[[], Allowed] = lambda: _UNLIMITED,
        curves: Curves | None = None,
        may_measure: Callable[[], bool] = lambda: True,
        measured: Measurements | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._allowed = allowed
        self._curves = curves
        self._may_measure = may_measure
        self._measured = measured or Measurements()
        self._clock = clock
        self._unknown: dict[str, tuple[float, ModelSpec]] = {}  # since when
        self._quiet: asyncio.TimerHandle | None = None
        self._services: dict[str, Service] = {}
        self._scheduler = Scheduler(_UNLIMITED, self.service)
        self._twins: dict[_Twin, dict[str, Call]] = {}  # by owner; of those that run there is one
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """Calls that wait for a lane."""
        return self._scheduler.queued

    @property
    def running(self) -> int:
        """Batches that run."""
        return self._scheduler.running

    def service(self, key: str) -> Service:
        """What the runs of a model (by its key) cost."""
        found = self._services.get(key)
        if found is None:
            found = self._services[key] = Service()
        return found

    def forget(self, key: str) -> None:
        """A model is gone for good."""
        self._services.pop(key, None)
        self._unknown.pop(key, None)

    def _known(self, spec: ModelSpec) -> None:
        """Have what is known of a model's pace."""
        if spec.key in self._services:
            return
        service = self.service(spec.key)
        curve = self._curves.get(spec) if self._curves is not None else None
        if curve is not None:
            service.measured(curve, max(curve.points()))
        else:
            self._unknown[spec.key] = self._clock(), spec

    def _rested(self) -> None:
        """Measure what is unknown, once nothing has run for a while; what is used without a pause, before its next run."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if not self._unknown:
            return
        since, _ = next(iter(self._unknown.values()))
        if self._clock() - since >= PATIENCE_S:
            self._measure_next()
        elif not self._scheduler.running and not self._scheduler.queued:
            self._quiet = asyncio.get_running_loop().call_later(QUIET_S, self._measure_in_peace)

    def _measure_in_peace(self) -> None:
        self._quiet = None
        if not self._scheduler.running:
            self._measure_next()

    def _measure_next(self) -> None:
        if self._unknown and self._may_measure():
            _, spec = self._unknown.pop(next(iter(self._unknown)))
            self._spawn(self._measure(spec, self._scheduler.started(self._clock(), spec.key, 1)))

    async def _measure(self, spec: ModelSpec, ticket: int) -> None:
        """A lane is taken meanwhile, as by a run."""
        try:
            seconds = await self._engine.measure(spec)
            if seconds:
                self._measured_now(spec, seconds)
        except EdgeError as error:
            logger.info("the pace of %s cannot be measured: %s", spec.key, error)
        finally:
            self._ended(ticket)

    def _measured_now(self, spec: ModelSpec, seconds: dict[int, float]) -> None:
        self.service(spec.key).measured(Curve(seconds), max(seconds))
        if self._curves is not None:
            self._curves.put(spec, seconds)
        logger.debug("%s: batches of %d are worth it", spec.key, self.service(spec.key).knee)

    def close(self) -> None:
        """Measure nothing more."""
        self._unknown.clear()
        if self._quiet is not None:
            self._quiet.cancel()

    async def submit(
        self,
        spec: ModelSpec,
        item: Item,
        deadline_s: float,
        owner: str = "",
        background: bool = False,
        pure: bool = True,
        tell: Tell | None = None,
    ) -> Outcome:
        """The outcome of one call, which has `deadline_s` from now. `pure`: the same arguments always have the same outcome.

        Twins are computed once, when the first of them is to run: the most urgent one of each owner waits for its turn, and
        its others with it. Cancelling withdraws this call only. Raises: BusyError (it would be late), and what `Runner.run`
        raises.
        """
        arguments = item.arguments if len(item.arguments) <= _SMALL else _Large(item.arguments)
        twin = (spec.key, item.encoding, arguments, item.roots) if pure else None
        began = self._clock()
        self._known(spec)
        outcome = None
        while outcome is None:  # a twin's deadline may be over before this one's
            call = Call(spec.key, began + deadline_s, owner, background)
            call.payload = _Waiting(spec, item, twin, owner, tell, began, call.deadline)
            outcome = await self._attempt(call)
        return outcome

    async def _attempt(self, call: Call) -> Outcome | None:
        """The outcome of a call or of its twin; None when it came to be late. Raises: BusyError."""
        waiting: _Waiting = call.payload
        twins = self._twins.get(waiting.twin, {}) if waiting.twin else {}
        for other in twins.values():
            if other.payload.runs or (other.owner == call.owner and other.order <= call.order):
                return await self._outcome(other)
        self._scheduler.allowed = self._allowed()
        if refusal := self._scheduler.admit(self._clock(), call):
            for other in twins.values():
                if other.order <= call.order:
                    return await self._outcome(other)
            raise _busy(refusal)
        if less_urgent := twins.get(call.owner):
            self._pass(less_urgent, call)
        if waiting.twin:
            self._twins.setdefault(waiting.twin, {})[call.owner] = call
        ticket = self._pump(call)
        return await (self._outcome(call) if ticket is None else self._here(waiting, ticket))

    def _pass(self, call: Call, to: Call) -> None:
        """Who waits for a call gets the outcome of its twin."""
        self._scheduler.withdraw(call)
        call.payload.passed = to
        to.payload.callers += call.payload.callers

    async def _outcome(self, call: Call) -> Outcome | None:
        """Wait for a call that another task runs."""
        caller: _Caller = asyncio.get_running_loop().create_future()
        call.payload.callers.append(caller)
        try:
            return await caller
        except asyncio.CancelledError:
            while call.payload.passed is not None:
                call = call.payload.passed
            call.payload.callers.remove(caller)
            if not call.payload.callers and self._scheduler.withdraw(call):
                self._settled(call.payload)
            raise

    async def _here(self, waiting: _Waiting, ticket: int) -> Outcome | None:
        """Run a call that is alone in its caller's own task: another one would cost every lone call some turns of the loop."""
        try:
            await self._run([waiting], ticket)
        except asyncio.CancelledError:
            if waiting.callers:  # twins, which still want to know
                self._spawn(self._run([waiting], self._scheduler.started(self._clock(), waiting.spec.key, 1)))
            else:
                self._settled(waiting)
            raise
        return waiting.outcome()

    def _pump(self, alone: Call | None = None) -> int | None:
        """Start what can be started, but for `alone` when that is a batch by itself: the ticket of its run is returned."""
        now = self._clock()
        own = None
        while batch := self._scheduler.release(now):
            batch = [call for call in batch if self._starts(call)]
            ticket = self._scheduler.started(now, batch[0].model, len(batch))
            if batch[0] is alone and len(batch) == 1:
                own = ticket
            else:
                self._spawn(self._run([call.payload for call in batch], ticket))
        return own

    def _starts(self, call: Call) -> bool:
        """A call is about to run, for its twins too; False for one of these, which is in the same batch."""
        waiting: _Waiting = call.payload
        if waiting.passed is not None:
            return False
        waiting.runs = True
        if waiting.twin is not None:
            for other in self._twins[waiting.twin].values():
                if other is not call:
                    self._pass(other, call)
            self._twins[waiting.twin] = {call.owner: call}
        return True

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[_Waiting], ticket: int) -> None:
        try:
            ends = await self._run_together(batch)
        except asyncio.CancelledError:
            # The engine goes on with it: the lane is free when the run was to be done, or the next ones would be late.
            left = self._scheduler.left(self._clock(), ticket)
            asyncio.get_running_loop().call_later(left, self._ended, ticket)
            raise
        self._ended(ticket)  # the next one begins before these are answered
        for one, how in ends:
            one.end(how)

    def _ended(self, ticket: int) -> None:
        self._scheduler.finished(ticket)
        for call in self._scheduler.expire(self._clock()):
            self._settled(call.payload)
            call.payload.end(None)
        self._rested()
        self._pump()

    async def _run_together(self, batch: list[_Waiting]) -> list[tuple[_Waiting, Outcome | Exception]]:
        spec = batch[0].spec
        began = self._clock()
        try:
            ran = await self._engine.run(spec, [one.item for one in batch], batch[0].tell if len(batch) == 1 else None)
        except EngineError as error:
            if len(batch) == 1:
                return self._failed(batch, error)
            # One of them may have brought the engine down: the others do not fail with it.
            logger.info("a batch of %d of %s failed, its calls are run one by one: %s", len(batch), spec.key, error)
            for one in batch:
                if any(not caller.done() for caller in one.callers):
                    for alone, how in await self._run_together([one]):
                        alone.end(how)
                else:
                    self._settled(one)
            return []
        except Exception as error:  # noqa: BLE001 - a bug too must reach the callers, who would wait for ever
            return self._failed(batch, error)
        self._scheduler.told(self._clock() - min(one.deadline for one in batch))
        besides = max(0.0, self._clock() - began - ran.seconds - HOP_S)
        self.service(spec.key).observe(len(batch), ran.seconds, besides)
        name = spec.manifest.model.name
        self._measured.executed(name, len(batch), sum(began - one.began for one in batch), ran.seconds)
        for one, outcome in zip(batch, ran.outcomes, strict=True):
            self._settled(one)
            self._measured.settled(name, bool(outcome.error))
        return list(zip(batch, ran.outcomes, strict=True))

    def _failed(self, batch: list[_Waiting], error: Exception) -> list[tuple[_Waiting, Outcome | Exception]]:
        for one in batch:
            self._settled(one)
            self._measured.settled(one.spec.manifest.model.name, failed=True)
        return [(one, error) for one in batch]

    def _settled(self, one: _Waiting) -> None:
        twins = self._twins.get(one.twin, {}) if one.twin is not None else {}
        if one.owner in twins and twins[one.owner].payload is one:
            del twins[one.owner]
            if not twins:
                del self._twins[one.twin]


def _busy(refusal: Refusal) -> BusyError:
    milliseconds = max(1, round(refusal.retry_after_s * 1000))
    before = f" ({refusal.queued} calls are before it)" if refusal.queued else ""
    return BusyError(_WORDS[refusal.why] + before, f"Call again in {milliseconds} ms", milliseconds, refusal.why)
