"""Which replica gets a call, from what was seen of each: of two the one done first. Pure; seconds of any clock."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol, TypeVar

FIRST_S = 0.05
"""What a call is taken to need where no replica was seen doing one."""
FORGET_S = 10.0
"""After so long, what was seen counts for a third, and the replica is taken to be like the others: so it is tried again."""
MAX_TOOLS = 512
"""Of a replica, and of all; the one that was called least recently is forgotten."""
LOADS = (1.0, 1.25, 2.0, 4.0)
"""How much longer a device takes that says that it is NOMINAL, WARM, HOT, CRITICAL."""
HEDGES = 0.05
"""The share of calls that may be made twice because the first one straggles."""
_LEARN = 0.2
_BURST = 4.0
_SAMPLES = 128
_ENOUGH = 20
_STRAGGLES = 0.95
_LEAST_S = 1e-6


@dataclass(eq=False, slots=True)
class Flight:
    """A call at a replica: since when, what it is taken to need (on a device that is NOMINAL), and what it waits behind."""

    tool: str
    begun: float
    needs_s: float
    ahead_s: float
    ahead: int
    slower: float
    learns: bool = True

    def finish_s(self) -> float:
        """When it should have been done, from its beginning."""
        return (self.needs_s + self.ahead_s) * self.slower


class Seen:
    """What was seen of one replica: calls that are there now, and for each tool what a call needs if none is ahead of it."""

    def __init__(self) -> None:
        self.flights: dict[Flight, None] = {}  # in the order in which they began
        self._paces: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what a call needs, and when that was seen

    def needs_s(self, tool: str) -> float | None:
        """What a call was last seen to need; None where none was seen."""
        pace = self._paces.get(tool)
        return pace[0] if pace else None

    def begin(self, tool: str, now: float, load: int, usual_s: float) -> Flight:
        """A call goes there; it ends by one of the methods below."""
        ahead_s = sum(flight.needs_s for flight in self.flights)
        flight = Flight(tool, now, self._expected(tool, now, usual_s), ahead_s, len(self.flights), LOADS[load])
        self.flights[flight] = None
        return flight

    def answered(self, flight: Flight, now: float, rtt_s: float) -> None:
        """It was answered."""
        self.lost(flight)
        if flight.learns:
            self._learn(flight, self._needed(flight, now, rtt_s), now)

    def left(self, flight: Flight, now: float, rtt_s: float) -> None:
        """Nobody waits for it any more. It would have needed longer: that is learnt, or a straggler would be given calls for
        ever because each of its answers comes too late to be seen."""
        self.lost(flight)
        at_least = self._needed(flight, now, rtt_s)
        if flight.learns and at_least > flight.needs_s:
            self._learn(flight, at_least, now)

    def lost(self, flight: Flight) -> None:
        """It ended in a way that says nothing of how long calls take."""
        self.flights.pop(flight, None)

    def finish_s(self, tool: str, now: float, load: int, usual_s: float) -> float:
        """When a call would be done that went there now, without the way there and back."""
        waits_s = sum(flight.needs_s for flight in self.flights) + self._expected(tool, now, usual_s)
        oldest = next((flight for flight in self.flights if flight.tool == tool), None)
        overdue_s = 0.0 if oldest is None else max(0.0, now - oldest.begun - oldest.finish_s())
        return waits_s * LOADS[load] + overdue_s

    def _expected(self, tool: str, now: float, usual_s: float) -> float:
        pace = self._paces.get(tool)
        if pace is None:
            return usual_s
        return usual_s + (pace[0] - usual_s) * math.exp(-max(0.0, now - pace[1]) / FORGET_S)

    def _needed(self, flight: Flight, now: float, rtt_s: float) -> float:
        """What a call needed by itself: its part of all that was there, but no less than if all there were alike."""
        took_s = max(_LEAST_S, now - flight.begun - rtt_s) / flight.slower
        share = flight.needs_s / (flight.needs_s + flight.ahead_s)
        return took_s * max(share, 1 / (flight.ahead + 1))

    def _learn(self, flight: Flight, needed_s: float, now: float) -> None:
        pace = self._paces.get(flight.tool)
        if pace is not None:
            weight = max(_LEARN, 1 - math.exp(-max(0.0, now - pace[1]) / FORGET_S))
            needed_s = pace[0] + (needed_s - pace[0]) * weight
        self._paces[flight.tool] = (needed_s, now)
        self._paces.move_to_end(flight.tool)
        if len(self._paces) > MAX_TOOLS:
            self._paces.popitem(last=False)


class Candidate(Protocol):
    """A replica as it is chosen: `load` 0 to 3, as it says itself."""

    load: int
    rtt_s: float
    seen: Seen


R = TypeVar("R", bound=Candidate)


def usual_s(replicas: Sequence[Candidate], tool: str) -> float:
    """What a call of this tool needs, by the replicas that were seen."""
    known = [needs for replica in replicas if (needs := replica.seen.needs_s(tool)) is not None]
    return median_low(known) if known else FIRST_S


def finish_s(replica: Candidate, tool: str, now: float, usual: float) -> float:
    """When the answer of a call would be here that was sent now."""
    return replica.rtt_s + replica.seen.finish_s(tool, now, replica.load, usual)


def choose(replicas: Sequence[R], tool: str, now: float, usual: float, left_s: float, chance: Callable[[], float]) -> R:
    """The better one of two by chance, so that several gateways do not all run to the same one; or the best of all, where the
    two would not be done within `left_s`. `replicas` are at least one; `chance` is a number from 0 to less than 1."""
    if len(replicas) > 1:
        first = int(chance() * len(replicas))
        second = int(chance() * (len(replicas) - 1))
        two = (replicas[first], replicas[second + (second >= first)])
    else:
        two = (replicas[0], replicas[0])
    best, done_s = min(((replica, finish_s(replica, tool, now, usual)) for replica in two), key=lambda pair: pair[1])
    if done_s <= left_s:
        return best
    return min(replicas, key=lambda replica: finish_s(replica, tool, now, usual))


class Hedges:
    """When a call straggles, and whether it may be made a second time: a small share of all calls may."""

    def __init__(self, share: float = HEDGES) -> None:
        self._share = share
        self._tokens = 0.0
        self._took: OrderedDict[str, deque[float]] = OrderedDict()
        self._after: dict[str, float] = {}

    def called(self, tool: str) -> float | None:
        """A call begins. After how many seconds it straggles; None where too few were seen."""
        self._tokens = min(_BURST, self._tokens + self._share)
        return self._after.get(tool)

    def take(self) -> bool:
        """Whether there is one more, which is then used."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def answered(self, tool: str, took_s: float) -> None:
        """A call was answered."""
        took = self._took.setdefault(tool, deque(maxlen=_SAMPLES))
        took.append(took_s)
        self._took.move_to_end(tool)
        if len(took) >= _ENOUGH:
            self._after[tool] = sorted(took)[int(len(took) * _STRAGGLES)]
        if len(self._took) > MAX_TOOLS:
            self._after.pop(self._took.popitem(last=False)[0], None)
