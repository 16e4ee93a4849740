"""Whether a replica is given calls: not while it rests, nor after failures, until a probe worked. Pure; any clock's seconds."""

import random
from collections import OrderedDict
from collections.abc import Callable

FAILURES = 3
"""So many in a row open a circuit."""
FIRST_S = 0.5
MOST_S = 30.0
"""How long it stays open before the first probe, and at most; it doubles with each probe that fails."""
PROBE_S = 0.25
"""While a probe is under way, others look again after so long."""
DEVICE = ""
"""The circuit of all that the device does; the others are those of its tools, by their names."""
MAX_CIRCUITS = 512


class Circuit:
    """Closed: calls go through. Open: none do. Then one goes through as a probe, and decides."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self.probing = False
        self._chance = chance
        self._failures = 0
        self._pause_s = FIRST_S
        self._until: float | None = None
        self._rests = 0.0

    def ready_in(self, now: float) -> float:
        """In how many seconds a call may go through: 0 for now."""
        until = max(self._rests, self._until or 0.0)
        if now < until:
            return until - now
        return PROBE_S if self.probing else 0.0

    @property
    def open(self) -> bool:
        """Whether the next call is a probe."""
        return self._until is not None

    def begin(self) -> None:
        """A call goes through; it ends by one of the methods below, or by `rest`."""
        self.probing = self._until is not None

    def worked(self) -> None:
        """It was answered, whatever the answer: the device does what it should."""
        self._failures, self._pause_s, self._until, self.probing = 0, FIRST_S, None, False

    def failed(self, now: float) -> None:
        """It was not answered, or the device says that something broke."""
        self._failures += 1
        if self._until is not None or self._failures >= FAILURES:
            if self.probing or self._until is None:  # what began before it opened says nothing new
                self._until = now + self._pause_s * (0.5 + self._chance() / 2)
                self._pause_s = min(self._pause_s * 2, MOST_S)
            self.probing = False

    def left(self) -> None:
        """Nobody waited for the answer."""
        self.probing = False

    def rest(self, until: float) -> None:
        """It wants no call before then."""
        self.probing = False
        self._rests = max(self._rests, until)


class Circuits:
    """Those of one device."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._device = Circuit(chance)
        self._tools: OrderedDict[str, Circuit] = OrderedDict()

    def of(self, tool: str) -> Circuit:
        """The circuit of a tool, or of the DEVICE."""
        if tool == DEVICE:
            return self._device
        circuit = self._tools.get(tool)
        if circuit is None:
            circuit = self._tools[tool] = Circuit(self._chance)
            if len(self._tools) > MAX_CIRCUITS:
                self._tools.popitem(last=False)
        else:
            self._tools.move_to_end(tool)
        return circuit

    def ready_in(self, tool: str, now: float) -> float:
        """In how many seconds this tool may be called: 0 for now."""
        return max(self._device.ready_in(now), self.of(tool).ready_in(now))
