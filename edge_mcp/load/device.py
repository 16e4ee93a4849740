"""The device's state as the server goes by it: asked when a decision needs it, measured at most once a second."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_mcp.load.governor import Budget, Governor, State
from edge_mcp.load.lag import LagMeter
from edge_mcp.load.monitor import LEAST_S, Monitor, Sample
from edge_mcp.load.signals import UNDER_VOLTAGE
from edge_mcp.load.trigger import Trigger
from edge_mcp.scheduling.policy import Allowed, Why

logger = logging.getLogger(__name__)

WORSE_S = 10.0
"""How often it is measured without being asked while the state is not NOMINAL: it ends without calls too."""
HELD_S = 5.0
"""The same while models hold memory and the kernel does not tell of pressure by itself."""

_POWER = {"temperature", "throttling", "under_voltage", "frequency", "power"}
_MEMORY = {"memory", "memory_pressure"}


@dataclass(frozen=True, slots=True)
class Change:
    """The device's state was another one until now."""

    before: State
    after: State
    why: str


class DeviceLoad:
    """Monitor and governor together. `changed` hears of each change of state, after it was logged; `pressed` when memory may
    have become short, although nobody asked. Without `listened`, `held` and a bad state no timer runs."""

    def __init__(
        self,
        lanes: int,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.monotonic,
        trigger: Callable[[Callable[[], None]], Trigger | None] = Trigger.open,
    ) -> None:
        self._lag = LagMeter()
        self.governor = Governor(lanes)
        self.changed: Callable[[Change], None] = lambda change: None
        self.pressed: Callable[[], None] = lambda: None
        self._monitor = monitor or Monitor(clock=clock, lag=self._lag.lag_s)
        self._clock = clock
        self._open = trigger
        self._trigger: Trigger | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._every: float | None = None
        self._listened = False
        self._held = False
        self._due = clock()
        self._sample: Sample | None = None
        self._allowed = self._allow()

    def budget(self) -> Budget:
        """What the device allows now."""
        if self._clock() >= self._due:
            self.sample()
        return self.governor.budget

    def allowed(self) -> Allowed:
        """What calls may take now; asked with each of them."""
        self._lag.touch()
        if self._clock() >= self._due:
            self.sample()
        return self._allowed

    def sample(self) -> Sample:
        """The signals now, or as they were less than a second ago."""
        now = self._clock()
        if self._sample is None or now >= self._due:
            self._sample = self._monitor.sample()
            self._due = now + LEAST_S
            self._judge(self._sample, now)
        return self._sample

    def _allow(self) -> Allowed:
        budget = self.governor.budget
        signals = {reason.signal for reason in self.governor.reasons}
        why: Why = "thermal" if signals & _POWER else "memory" if signals & _MEMORY else "deadline"
        return Allowed(budget.lanes, budget.slack, why)

    def stretch(self) -> int:
        """How many times as long the intervals of keep-alive are: by the state, and twice that while power is short."""
        load = self.sample().load
        low = load.throttling is not None and UNDER_VOLTAGE in load.throttling.now
        short = low or (load.power is not None and load.power.on_battery)
        return self.governor.budget.keepalive * (2 if short else 1)

    def listened(self, on: bool) -> None:
        """Whether somebody wants to hear of each change from now on: then it is measured once a second."""
        self._listened = on
        self._pace()

    def held(self, on: bool) -> None:
        """Whether models hold memory from now on that the device may need: then its pressure is noticed, also while idle."""
        if on == self._held:
            return
        self._held = on
        if on:
            self._trigger = self._open(self._look)
        elif self._trigger is not None:
            self._trigger.close()
            self._trigger = None
        self._pace()

    def close(self) -> None:
        """Measure no more."""
        self._lag.close()
        self._listened = False
        self.held(False)
        self._rest()

    def _judge(self, sample: Sample, now: float) -> None:
        before = self.governor.state
        is_news = self.governor.update(sample.load, now)
        self._allowed = self._allow()
        if not is_news:
            return
        after, allowed = self.governor.state, self.governor.budget
        why = "; ".join(reason.text for reason in self.governor.reasons) or "nothing speaks against it any more"
        logger.log(
            logging.WARNING if after > before else logging.INFO,
            "the device is %s (was %s): %s [signals=%s lanes=%d slack=%g keepalive=%d deflate=%r kept=%g background=%s]",
            after.name,
            before.name,
            why,
            ",".join(reason.signal for reason in self.governor.reasons) or "none",
            allowed.lanes,
            allowed.slack,
            allowed.keepalive,
            allowed.deflate,
            allowed.kept,
            "yes" if allowed.background else "no",
        )
        self._pace()
        self.changed(Change(before, after, why))

    def _look(self) -> None:
        """Measure although nobody asked."""
        self.sample()
        if self._held:
            self.pressed()

    def _pace(self) -> None:
        """Look again as often as there is reason to, if there is any."""
        reasons = (
            (self._listened, LEAST_S),
            (self._held and self._trigger is None, HELD_S),
            (self.governor.state > State.NOMINAL, WORSE_S),
        )
        every = min((seconds for wanted, seconds in reasons if wanted), default=None)
        if every == self._every:
            return
        self._rest()
        if every is not None and (loop := _loop()) is not None:
            self._timer, self._every = loop.call_later(every, self._tick), every

    def _tick(self) -> None:
        self._rest()  # before the look: a change of state has it paced anew
        self._look()
        self._pace()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._every = None, None


def _loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop; None outside of one, where whoever wants to know has to ask."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
