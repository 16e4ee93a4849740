"""The device's state as the server goes by it: asked when a decision needs it, measured at most once a second."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_mcp.load.governor import Budget, Governor, State
from edge_mcp.load.lag import LagMeter
from edge_mcp.load.monitor import LEAST_S, Monitor, Sample
from edge_mcp.scheduling.policy import Allowed, Why

logger = logging.getLogger(__name__)

_POWER = {"temperature", "throttling", "under_voltage", "frequency", "power"}
_MEMORY = {"memory", "memory_pressure"}


@dataclass(frozen=True, slots=True)
class Change:
    """The device's state was another one until now."""

    before: State
    after: State
    why: str


class DeviceLoad:
    """Monitor and governor together. `changed` hears of each change of state, after it was logged."""

    def __init__(self, lanes: int, monitor: Monitor | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._lag = LagMeter()
        self.governor = Governor(lanes)
        self.changed: Callable[[Change], None] = lambda change: None
        self._monitor = monitor or Monitor(clock=clock, lag=self._lag.lag_s)
        self._clock = clock
        self._due = clock()
        self._sample: Sample | None = None

    def budget(self) -> Budget:
        """What the device allows now."""
        if self._clock() >= self._due:
            self.sample()
        return self.governor.budget

    def allowed(self) -> Allowed:
        """What calls may take now; asked with each of them."""
        self._lag.touch()
        budget = self.budget()
        signals = {reason.signal for reason in self.governor.reasons}
        why: Why = "thermal" if signals & _POWER else "memory" if signals & _MEMORY else "deadline"
        return Allowed(budget.lanes, budget.slack, why)

    def close(self) -> None:
        """Measure no more."""
        self._lag.close()

    def sample(self) -> Sample:
        """The signals now, or as they were less than a second ago."""
        now = self._clock()
        if self._sample is None or now >= self._due:
            self._sample = self._monitor.sample()
            self._due = now + LEAST_S
            self._judge(self._sample, now)
        return self._sample

    def _judge(self, sample: Sample, now: float) -> None:
        before = self.governor.state
        if not self.governor.update(sample.load, now):
            return
        after = self.governor.state
        why = "; ".join(reason.text for reason in self.governor.reasons) or "nothing speaks against it any more"
        logger.warning("the device is %s (was %s): %s", after.name, before.name, why)
        self.changed(Change(before, after, why))
