"""Gives calls to the engine: at once while a lane is idle, else in batches; computes twins once; refuses what would be late."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
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


_UNLIMITED = Allowed(2**16)


class Runner(Protocol):
    """What the batcher needs of an engine; see engine.client.Engine."""

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """Seconds of the runtime by batch size."""
        ...

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """One outcome for each item."""
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call as the batcher keeps it: `asked` callers wait for its one outcome."""

    spec: ModelSpec
    item: Item
    outcome: "asyncio.Future[Outcome]"
    twin: tuple[str, bytes, tuple[str, ...]] | None
    tell: Tell | None
    began: float
    asked: int = 1


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
        self._unknown: dict[str, ModelSpec] = {}
        self._quiet: asyncio.TimerHandle | None = None
        self._services: dict[str, Service] = {}
        self._scheduler = Scheduler(_UNLIMITED, self.service)
        self._twins: dict[tuple[str, bytes, tuple[str, ...]], Call] = {}
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
            self._unknown[spec.key] = spec

    def _rested(self) -> None:
        """Measure what is unknown, once nothing has run for a while."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._unknown and not self._scheduler.running and not self._scheduler.queued:
            self._quiet = asyncio.get_running_loop().call_later(QUIET_S, self._measure_next)

    def _measure_next(self) -> None:
        self._quiet = None
        if self._unknown and not self._scheduler.running and self._may_measure():
            _, spec = self._unknown.popitem()
            self._spawn(self._measure(spec))

    async def _measure(self, spec: ModelSpec) -> None:
        """A lane is taken meanwhile, as by a run."""
        ticket = self._scheduler.started(self._clock(), spec.key, 1)
        try:
            seconds = await self._engine.measure(spec)
        except EdgeError as error:
            logger.info("the pace of %s cannot be measured: %s", spec.key, error)
            seconds = {}
        finally:
            self._scheduler.finished(ticket)
            self._pump()
        if seconds:
            curve = Curve(seconds)
            self.service(spec.key).measured(curve, max(seconds))
            if self._curves is not None:
                self._curves.put(spec, seconds)
            logger.info("%s: batches of %d are worth it", spec.key, self.service(spec.key).knee)
        self._rested()

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

        Cancelling withdraws this call only. Raises: BusyError (it would be late), and what `Runner.run` raises.
        """
        twin = (spec.key, item.arguments, item.roots) if pure else None
        call = self._twins.get(twin) if twin is not None else None
        if call is None:
            call = self._admitted(spec, item, deadline_s, owner, background, twin, tell)
        else:
            call.payload.asked += 1
        waiting: _Waiting = call.payload
        try:
            return await asyncio.shield(waiting.outcome)
        except asyncio.CancelledError:
            waiting.asked -= 1
            if not waiting.asked and self._scheduler.withdraw(call):
                self._settled(waiting)
                waiting.outcome.cancel()
            raise

    def _admitted(
        self,
        spec: ModelSpec,
        item: Item,
        deadline_s: float,
        owner: str,
        background: bool,
        twin: tuple[str, bytes, tuple[str, ...]] | None,
        tell: Tell | None,
    ) -> Call:
        self._known(spec)
        now = self._clock()
        self._scheduler.allowed = self._allowed()
        waiting = _Waiting(spec, item, asyncio.get_running_loop().create_future(), twin, tell, now)
        call = Call(spec.key, now + deadline_s, owner, background, waiting)
        if refusal := self._scheduler.admit(now, call):
            raise _busy(refusal)
        if twin is not None:
            self._twins[twin] = call
        self._pump()
        return call

    def _pump(self) -> None:
        """Start what can be started."""
        now = self._clock()
        while batch := self._scheduler.release(now):
            ticket = self._scheduler.started(now, batch[0].model, len(batch))
            self._spawn(self._run([call.payload for call in batch], ticket))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[_Waiting], ticket: int) -> None:
        try:
            await self._run_together(batch)
        finally:
            self._scheduler.finished(ticket)
            self._pump()
            self._rested()

    async def _run_together(self, batch: list[_Waiting]) -> None:
        spec = batch[0].spec
        began = self._clock()
        try:
            ran = await self._engine.run(spec, [one.item for one in batch], batch[0].tell if len(batch) == 1 else None)
        except EngineError as error:
            if len(batch) == 1:
                self._fail(batch, error)
                return
            # One of them may have brought the engine down: the others do not fail with it.
            logger.info("a batch of %d of %s failed, its calls are run one by one: %s", len(batch), spec.key, error)
            for one in batch:
                await self._run_together([one])
        except EdgeError as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - a bug must reach the callers, who would wait for ever
            self._fail(batch, error)
        else:
            besides = max(0.0, self._clock() - began - ran.seconds - HOP_S)
            self.service(spec.key).observe(len(batch), ran.seconds, besides)
            name = spec.manifest.model.name
            self._measured.executed(name, len(batch), sum(began - one.began for one in batch), ran.seconds)
            for one, outcome in zip(batch, ran.outcomes, strict=True):
                self._settled(one)
                self._measured.settled(name, bool(outcome.error))
                if not one.outcome.done():
                    one.outcome.set_result(outcome)

    def _fail(self, batch: list[_Waiting], error: Exception) -> None:
        for one in batch:
            self._settled(one)
            self._measured.settled(one.spec.manifest.model.name, failed=True)
            if not one.outcome.done():
                one.outcome.set_exception(error)
                one.outcome.exception()  # marks it as seen: its caller may have been cancelled

    def _settled(self, one: _Waiting) -> None:
        if one.twin is not None:
            self._twins.pop(one.twin, None)


def _busy(refusal: Refusal) -> BusyError:
    milliseconds = max(1, round(refusal.retry_after_s * 1000))
    before = f" ({refusal.queued} calls are before it)" if refusal.queued else ""
    return BusyError(_WORDS[refusal.why] + before, f"Call again in {milliseconds} ms", milliseconds, refusal.why)
