"""How late the event loop is: measured while there is work, and no wake-up without."""

import asyncio
from collections import deque

TICK_S = 0.25
FRESH_S = 2.0


class LagMeter:
    """A timer that runs as long as `touch` is called; how much later than it should it came, is the lag."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=int(FRESH_S / TICK_S))
        self._touched = False
        self._timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """There is work."""
        self._touched = True
        if self._timer is None:
            self._begin(asyncio.get_running_loop())

    def lag_s(self) -> float | None:
        """The most of the last `FRESH_S` seconds; None when nothing was measured in them."""
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            return None
        return max((late for at, late in self._late if now - at <= FRESH_S), default=None)

    def close(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._touched = False
        self._timer = loop.call_at(loop.time() + TICK_S, self._tick, loop, loop.time() + TICK_S)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._late.append((now, now - due))
        self._timer = None
        if self._touched:
            self._begin(loop)
