"""How long to wait before the next attempt to connect."""

import random
from collections.abc import Callable

FIRST_S = 0.2
MOST_S = 5.0


class Backoff:
    """Waits of any length up to a limit that doubles from `first` to `most` seconds (full jitter): after a device's restart all
    its clients would come at once otherwise. `chance` is a number from 0 to 1."""

    def __init__(self, first: float = FIRST_S, most: float = MOST_S, chance: Callable[[], float] = random.random) -> None:
        self._first = first
        self._most = most
        self._chance = chance
        self._next = first

    def next(self) -> float:
        """Seconds to wait now."""
        limit, self._next = self._next, min(self._next * 2, self._most)
        return limit * self._chance()

    def reset(self) -> None:
        """It worked: begin anew."""
        self._next = self._first
