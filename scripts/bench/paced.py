"""A server for `overload`: edge-mcp with any policy in its batcher, whose runs take as long as on a slower device.

paced.py POLICY SLOWER serve --stdio …     SIGUSR1 throttles it, SIGUSR2 ends that
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import edge_mcp.app
from edge_mcp.cli.main import main
from edge_mcp.engine.messages import Item, ModelSpec, Ran
from edge_mcp.engine.watch import Tell
from edge_mcp.scheduling import batcher
from edge_mcp.scheduling.knee import Curve, Service
from edge_mcp.scheduling.policy import Allowed, Scheduler
from tests.scheduling.peers import Aimd, Fifo, Window
from tests.scheduling.simulation import CURVES, THROTTLED

POLICIES: dict[str, type[Fifo] | None] = {"edge-mcp": None, "FIFO": Fifo, "2 ms window": Window, "AIMD": Aimd}
MODEL = "silero"
LEAST_S = 1e-5


def curve(slower: float) -> dict[int, float]:
    """Seconds of a run by batch size, on a device so many times slower."""
    return {size: seconds * slower for size, seconds in CURVES[MODEL].items()}


class Paced:
    """See batcher.Runner: the runs of an engine, each as long as the curve says."""

    factor = 1.0

    def __init__(self, engine: batcher.Runner, seconds: dict[int, float]) -> None:
        self._engine = engine
        self._seconds = seconds
        self._curve = Curve(seconds)

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """See Runner."""
        return self._seconds

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """See Runner."""
        seconds = self._curve.seconds(len(items)) * Paced.factor
        done = time.monotonic() + seconds
        ran = await self._engine.run(model, items, tell)
        # A thread, as an engine is another process: the event loop's own timers come up to 1 ms late.
        await asyncio.to_thread(time.sleep, max(LEAST_S, done - time.monotonic()))
        return Ran(ran.outcomes, seconds)


def batcher_of(policy: type[Fifo] | None, slower: float) -> type[batcher.Batcher]:
    """The batcher with this policy before paced runs."""

    class Bench(batcher.Batcher):
        def __init__(self, engine: batcher.Runner, allowed: Callable[[], Allowed], *more: Any) -> None:
            # The governor would see this machine's load, which is not that of the device.
            super().__init__(Paced(engine, curve(slower)), lambda: Allowed(1))
            self._timer: asyncio.TimerHandle | None = None
            if policy is not None:
                self._scheduler: Scheduler = policy(Allowed(1), self.service, self._clock)

        def _pump(self, *alone: Any) -> int | None:
            ticket = super()._pump(*alone)
            due = self._scheduler.due() if isinstance(self._scheduler, Fifo) else None
            if due is not None and (self._timer is None or self._timer.cancelled()):
                self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._rung)
            return ticket

        def _rung(self) -> None:
            self._timer = None
            self._pump()

    return Bench


def capacity(slower: float) -> float:
    """Calls per second that the one lane can do at best."""
    each = Curve(curve(slower))
    return max(size / each.seconds(size) for size in (Service(each, size).knee for size in (1, 2, 4, 8, 16, 32)))


def throttle(number: int, _frame: object) -> None:
    """SIGUSR1 or SIGUSR2 came."""
    Paced.factor = THROTTLED if number == signal.SIGUSR1 else 1.0


if __name__ == "__main__":
    chosen, slower = POLICIES[sys.argv[1]], float(sys.argv[2])
    del sys.argv[1:3]
    edge_mcp.app.Batcher = batcher_of(chosen, slower)  # type: ignore[attr-defined]
    signal.signal(signal.SIGUSR1, throttle)
    signal.signal(signal.SIGUSR2, throttle)
    main()
