"""Which calls run when, how many as one, and which are refused at once. Pure: no clock, no I/O.

An idle lane takes a call at once; batches form only while all lanes are busy (work-conserving). The earliest deadline goes
first, over all models; between owners the one that got less goes first. A call that would not be done in time is refused
when it comes: whoever sheds at the head of a queue only serves calls that are nearly late, in ever smaller batches. What came
to be late all the same, while it waited, is not run either.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Any, Literal

from edge_mcp.scheduling.knee import Service

Why = Literal["deadline", "queue", "memory", "thermal"]
MAX_QUEUED = 1024
"""Calls that wait at once, of all owners. No owner has more than are left for others."""
MAX_RESTED = 256
"""Owners with nothing waiting of which is known what they got."""
SHORTER = 0.95


@dataclass(slots=True, eq=False)
class Call:
    """A call that waits. `deadline` is in seconds of the clock of `admit`; background calls go after all others."""

    model: str
    deadline: float
    owner: str = ""
    background: bool = False
    payload: Any = None

    @property
    def order(self) -> tuple[bool, float]:
        """Of two calls of one owner the smaller goes first."""
        return self.background, self.deadline


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not taken, in how many seconds it would have been too late, and how many wait before it."""

    why: Why
    retry_after_s: float
    queued: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the device's state allows: runs at once, the share of a deadline that may be planned, and what limits it."""

    lanes: int
    slack: float = 0.92
    why: Why = "deadline"


_Kind = tuple[str, bool]
"""A model, and whether the calls are background ones."""


@dataclass(slots=True)
class _Owner:
    """One peer's waiting calls, each kind by deadline, how many they are, and the seconds of service that it got."""

    served: float
    queues: dict[_Kind, list[Call]] = field(default_factory=dict)
    count: int = 0


class Scheduler:
    """The queues of all models before one budget of lanes. `services` says what a model's runs cost."""

    def __init__(self, allowed: Allowed, services: Callable[[str], Service]) -> None:
        self.allowed = allowed
        self._services = services
        self._owners: dict[str, _Owner] = {}  # those with calls that wait
        self._rested: dict[str, float] = {}  # what the others got, where that is more than who comes anew has
        self._waiting: dict[str, int] = {}  # by model
        self._queued = 0
        self._running: dict[int, float] = {}  # lane's ticket -> when it will be done
        self._ticket = 0
        self._short = 0.0  # seconds by which calls that were taken came late nevertheless
        self._floor = 0.0  # what the owner had got whose turn it was last: who comes anew begins here

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._queued

    @property
    def running(self) -> int:
        """Batches that run."""
        return len(self._running)

    def admit(self, now: float, call: Call) -> Refusal | None:
        """Take a call into the queue, unless it would come too late. An idle lane takes what has any time left: only a run
        tells whether runs still take as long."""
        owner = self._owners.get(call.owner)
        if (owner.count if owner else 0) >= MAX_QUEUED - self._queued:
            return Refusal("queue", self._drain(now) / 2, self._queued)
        if not call.deadline > now:
            return Refusal(self.allowed.why, self._drain(now), self._queued)
        if len(self._running) >= self.allowed.lanes:
            late = self._finish(now, call, owner) + self._short - (now + self.allowed.slack * (call.deadline - now))
            if late > 0:
                return Refusal(self.allowed.why, late, self._queued)
        if owner is None:
            if not self._owners and not self._running:
                self._rested.clear()
            owner = self._owners[call.owner] = _Owner(max(self._floor, self._rested.pop(call.owner, 0.0)))
        insort(owner.queues.setdefault((call.model, call.background), []), call, key=_deadline)
        owner.count += 1
        self._queued += 1
        self._waiting[call.model] = self._waiting.get(call.model, 0) + 1
        return None

    def release(self, now: float) -> list[Call]:
        """The calls of one model to run now as one batch; none when no lane is free, or nothing waits."""
        if len(self._running) >= self.allowed.lanes or not self._owners:
            return []
        (model, _), first = min(
            ((kind, _turn(kind[1], owner, calls)) for owner in self._owners.values() for kind, calls in owner.queues.items()),
            key=lambda found: found[1],
        )
        self._floor = max(self._floor, first[1])
        return self._batch(now, model)

    def expire(self, now: float) -> list[Call]:
        """Take out what waits and would be late even if it ran now."""
        late: list[Call] = []
        for name, owner in list(self._owners.items()):
            for kind, calls in list(owner.queues.items()):
                if calls[0].deadline < (soonest := now + self._services(kind[0]).seconds(1)):
                    count = bisect_left(calls, soonest, key=_deadline)
                    late += calls[:count]
                    self._remove(name, kind, 0, count)
        return late

    def started(self, now: float, model: str, size: int) -> int:
        """A batch begins to run; what is returned names it for `finished`."""
        self._ticket += 1
        self._running[self._ticket] = now + self._services(model).seconds(size)
        return self._ticket

    def finished(self, ticket: int) -> None:
        """A batch has ended, well or not. What it took is told to its `Service`."""
        self._running.pop(ticket, None)

    def told(self, late_s: float) -> None:
        """A batch is done, `late_s` after the earliest deadline in it: the more, the more room is given to the next calls.

        What the curve does not know of (a processor that is shared, a clock that changes) is made up for within some runs.
        """
        self._short = max(self._short * SHORTER, late_s / 2)

    def left(self, now: float, ticket: int) -> float:
        """In how many seconds a batch that runs will be done, as far as one can say."""
        return max(0.0, self._running.get(ticket, now) - now)

    def withdraw(self, call: Call) -> bool:
        """A call is not wanted any more; False when it runs already, or never was here."""
        kind = (call.model, call.background)
        owner = self._owners.get(call.owner)
        calls = owner.queues.get(kind, []) if owner else []
        for at in range(bisect_left(calls, call.deadline, key=_deadline), len(calls)):
            if calls[at] is call:
                self._remove(call.owner, kind, at, at + 1)
                return True
            if calls[at].deadline > call.deadline:
                break
        return False

    def _batch(self, now: float, model: str) -> list[Call]:
        """Take the next calls of a model, in turn, as many as are worth it and still meet the earliest deadline."""
        service = self._services(model)
        each = service.each(self._waiting[model])
        turns = [
            (_turn(background, owner, calls), name, background)
            for name, owner in self._owners.items()
            for background in (False, True)
            if (calls := owner.queues.get((model, background)))
        ]
        heapify(turns)
        batch: list[Call] = []
        taken: dict[tuple[str, bool], int] = {}
        earliest = float("inf")
        while turns and len(batch) < service.knee:
            (_, served, deadline), name, background = turns[0]
            owner = self._owners[name]
            if served < owner.served:  # its other calls had their turn meanwhile
                heapreplace(turns, ((background, owner.served, deadline), name, background))
                continue
            earliest = min(earliest, deadline)
            if batch and not self._fits(service, len(batch) + 1, earliest - now):
                break
            calls, at = owner.queues[model, background], taken.get((name, background), 0)
            batch.append(calls[at])
            taken[name, background] = at = at + 1
            owner.served += each
            if at == len(calls):
                heappop(turns)
            else:
                heapreplace(turns, ((background, owner.served, calls[at].deadline), name, background))
        for (name, background), count in taken.items():
            self._remove(name, (model, background), 0, count)
        return batch

    def _fits(self, service: Service, size: int, left: float) -> bool:
        """Whether a batch is done in `left` seconds; where one call is not, more do no harm."""
        return service.seconds(size) <= self.allowed.slack * left or service.seconds(1) > left

    def _remove(self, name: str, kind: _Kind, begin: int, end: int) -> None:
        """Take some of an owner's calls out of the queue."""
        owner, count = self._owners[name], end - begin
        del owner.queues[kind][begin:end]
        if not owner.queues[kind]:
            del owner.queues[kind]
        owner.count -= count
        self._queued -= count
        self._waiting[kind[0]] -= count
        if not self._waiting[kind[0]]:
            del self._waiting[kind[0]]
        if not owner.count:
            del self._owners[name]
            self._rest(name, owner.served)

    def _rest(self, name: str, served: float) -> None:
        """An owner has nothing waiting: it gets no credit for that, and what it got beyond the others is not forgotten."""
        self._rested[name] = served
        if len(self._rested) > MAX_RESTED:
            self._rested = {one: had for one, had in self._rested.items() if had > self._floor}
        if len(self._rested) > MAX_RESTED:
            self._rested = dict(islice(self._rested.items(), MAX_RESTED // 2, None))

    def _finish(self, now: float, call: Call, owner: _Owner | None) -> float:
        """When a call that comes now will be done: after what goes before it, with as many of its model as wait."""
        begin = now + self._ahead(now, call, owner) / self.allowed.lanes
        service = self._services(call.model)
        return begin + service.seconds(min(service.knee, self._waiting.get(call.model, 0) + 1))

    def _ahead(self, now: float, call: Call, own: _Owner | None) -> float:
        """Seconds of work that will be done before a call that comes now: what runs, and what waits and goes first."""
        cost = {model: self._services(model).each(count) for model, count in self._waiting.items()}
        before = 0.0
        for (model, background), calls in own.queues.items() if own else ():
            if background == call.background:
                before += cost[model] * bisect_right(calls, call.deadline, key=_deadline)
            elif call.background:
                before += cost[model] * len(calls)
        served = (own.served if own else max(self._floor, self._rested.get(call.owner, 0.0))) + before
        for owner in self._owners.values():
            if owner is not own:
                before += _until(owner, served, call.background, cost)
        return before + sum(max(0.0, done - now) for done in self._running.values())

    def _drain(self, now: float) -> float:
        """Seconds until all that waits and runs is done."""
        waiting = sum(count * self._services(model).each(count) for model, count in self._waiting.items())
        return (waiting + sum(max(0.0, done - now) for done in self._running.values())) / self.allowed.lanes


def _deadline(call: Call) -> float:
    return call.deadline


def _turn(background: bool, owner: _Owner, calls: list[Call]) -> tuple[bool, float, float]:
    """The smaller, the sooner it is these calls' turn."""
    return background, owner.served, calls[0].deadline


def _until(owner: _Owner, served: float, background: bool, cost: dict[str, float]) -> float:
    """Seconds of another owner's calls that go before a call of one who will have got `served` by then: until it got as much.
    Before a background call go all that are none."""
    first = equal = 0.0
    for (model, waits), calls in owner.queues.items():
        if waits == background:
            equal += cost[model] * len(calls)
        elif background:
            first += cost[model] * len(calls)
    return first + min(equal, max(0.0, served - owner.served - first))
