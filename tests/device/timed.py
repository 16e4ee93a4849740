"""`python timed.py RATE ARGUMENTS…`: edge-mcp in a process whose clocks are the test's.

SIGUSR1 has monotonic time pass RATE times as fast from then on: an hour within seconds. Each SIGUSR2 puts the wall clock 30
years ahead, then 30 years back, then right, as a time server may.
"""

import itertools
import selectors
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

YEARS = 30 * 365 * 86_400.0


class Clocks:
    """What Python's own clocks are replaced by."""

    def __init__(self, rate: float) -> None:
        self.monotonic_of, self.time_of = time.monotonic, time.time
        self.fast = rate
        self.rate, self.began, self.shown = 1.0, time.monotonic(), time.monotonic()
        self.jumps, self.jump = itertools.cycle((YEARS, -YEARS, 0.0)), 0.0

    def monotonic(self) -> float:
        return self.shown + (self.monotonic_of() - self.began) * self.rate

    def time(self) -> float:
        return self.time_of() + self.jump

    def hurry(self) -> None:
        self.shown, self.began, self.rate = self.monotonic(), self.monotonic_of(), self.fast

    def leap(self) -> None:
        self.jump = next(self.jumps)


def main(rate: float, words: list[str]) -> None:
    clocks = Clocks(rate)
    wait = selectors.EpollSelector.select

    def select(self: selectors.EpollSelector, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return wait(self, None if timeout is None else timeout / clocks.rate)

    replaced: Mapping[tuple[Any, str], Any] = {
        (time, "monotonic"): clocks.monotonic,
        (time, "time"): clocks.time,
        (selectors.EpollSelector, "select"): select,
    }
    for (of, name), other in replaced.items():
        setattr(of, name, other)
    signal.signal(signal.SIGUSR1, lambda number, frame: clocks.hurry())
    signal.signal(signal.SIGUSR2, lambda number, frame: clocks.leap())
    sys.argv[1:] = words
    from edge_mcp.cli.main import main as run  # what it imports takes the clocks that it finds

    run()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
