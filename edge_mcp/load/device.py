"""The device's state as the server goes by it: asked when a decision needs it, measured at most once a second."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_mcp.load.governor import Budget, Governor, State
from edge_mcp.load.monitor import LEAST_S, Monitor, Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """The device's state was another one until now."""

    before: State
    after: State
    why: str


class DeviceLoad:
    """Monitor and governor together. `changed` hears of each change of state, after it was logged."""

    def __init__(self, lanes: int, monitor: Monitor | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.governor = Governor(lanes)
        self.changed: Callable[[Change], None] = lambda change: None
        self._monitor = monitor or Monitor(clock=clock)
        self._clock = clock
        self._due = clock()
        self._sample: Sample | None = None

    def budget(self) -> Budget:
        """What the device allows now."""
        if self._clock() >= self._due:
            self.sample()
        return self.governor.budget

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
