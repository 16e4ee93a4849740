"""Which calls run when, how many as one, and which are refused at once. Pure: no clock, no I/O.

An idle lane takes a call at once; batches form only while all lanes are busy (work-conserving). The earliest deadline goes
first, over all models; between owners the one that got less goes first. A call that would not be done in time is refused
when it comes, and never later: whoever sheds at the head of a queue serves calls that are nearly late, in ever smaller batches.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_mcp.scheduling.knee import Service

Why = Literal["deadline", "queue", "memory", "thermal"]
MAX_QUEUED = 1024
"""Calls that wait at once, of all owners."""
SHORTER = 0.95


@dataclass(slots=True, eq=False)
class Call:
    """A call that waits. `deadline` is in seconds of the clock of `admit`; background calls go after all others."""

    model: str
    deadline: float
    owner: str = ""
    background: bool = False
    payload: Any = None
    order: tuple[bool, float] = field(init=False)

    def __post_init__(self) -> None:
        self.order = (self.background, self.deadline)


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


@dataclass(slots=True)
class _Owner:
    """One peer's waiting calls in order, and the seconds of service that it got."""

    calls: list[Call] = field(default_factory=list)
    served: float = 0.0


class Scheduler:
    """The queues of all models before one budget of lanes. `services` says what a model's runs cost."""

    def __init__(self, allowed: Allowed, services: Callable[[str], Service]) -> None:
        self.allowed = allowed
        self._services = services
        self._owners: dict[str, _Owner] = {}
        self._waiting: dict[str, int] = {}  # by model
        self._running: dict[int, float] = {}  # lane's ticket -> when it will be done
        self._ticket = 0
        self._short = 0.0  # seconds by which calls that were taken came late nevertheless
        self._floor = 0.0  # service of the owner that got least: who comes anew begins here

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return sum(self._waiting.values())

    @property
    def running(self) -> int:
        """Batches that run."""
        return len(self._running)

    def admit(self, now: float, call: Call) -> Refusal | None:
        """Take a call into the queue, unless it would come too late."""
        queued = self.queued
        if queued >= MAX_QUEUED:
            return Refusal("queue", self._drain(now) / 2, queued)
        if len(self._running) >= self.allowed.lanes:
            late = self._finish(now, call) + self._short - (now + self.allowed.slack * (call.deadline - now))
            if late > 0:
                return Refusal(self.allowed.why, late, queued)
        owner = self._owners.get(call.owner)
        if owner is None:
            owner = self._owners[call.owner] = _Owner(served=self._floor)
        insort(owner.calls, call, key=_order)
        self._waiting[call.model] = self._waiting.get(call.model, 0) + 1
        return None

    def release(self, now: float) -> list[Call]:
        """The calls of one model to run now as one batch; none when no lane is free, or nothing waits."""
        if len(self._running) >= self.allowed.lanes or not self._owners:
            return []
        first = next(self._in_turn())
        service = self._services(first.model)
        most = min(service.knee, self._waiting[first.model])
        batch = [first]
        earliest = first.deadline
        if most > 1:
            for call in self._in_turn():
                if call.model == first.model and call is not first:
                    batch.append(call)
                    earliest = min(earliest, call.deadline)
                    if len(batch) == most:
                        break
        size = self._fitting(service, len(batch), earliest - now)
        return [self._take(call, service.each(size)) for call in batch[:size]]

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
        owner = self._owners.get(call.owner)
        if owner is None or not any(call is other for other in owner.calls):
            return False
        self._forget(call)
        return True

    def _fitting(self, service: Service, size: int, left: float) -> int:
        """The largest batch that is done in `left` seconds; all of it where even one is not: it is late anyway."""
        if service.seconds(1) > left:
            return size
        while size > 1 and service.seconds(size) > self.allowed.slack * left:
            size -= 1
        return size

    def _finish(self, now: float, call: Call) -> float:
        """When a call that comes now will be done: after what goes before it, with as many of its model as wait."""
        begin = now + self._ahead(now, call) / self.allowed.lanes
        service = self._services(call.model)
        return begin + service.seconds(min(service.knee, self._waiting.get(call.model, 0) + 1))

    def _ahead(self, now: float, call: Call) -> float:
        """Seconds of work that will be done before a call that comes now: what runs, and what waits and goes first."""
        cost = {model: self._services(model).each(count) for model, count in self._waiting.items()}
        own = self._owners.get(call.owner)
        before = _cost(own.calls, bisect_right(own.calls, call.order, key=_order), cost) if own else 0.0
        served = (own.served if own else self._floor) + before
        for owner in self._owners.values():
            if owner is not own:
                before += _until(owner, served, call, cost)
        return before + sum(max(0.0, done - now) for done in self._running.values())

    def _in_turn(self) -> Iterator[Call]:
        """All waiting calls in the order in which they are to run."""
        if len(self._owners) == 1:
            yield from next(iter(self._owners.values())).calls
            return
        ahead = {name: owner.served for name, owner in self._owners.items()}
        at = dict.fromkeys(self._owners, 0)
        while at:
            # Background calls of one owner wait for the others' interactive ones.
            name = min(at, key=lambda one: (self._owners[one].calls[at[one]].background, ahead[one], self._deadline(one, at)))
            call = self._owners[name].calls[at[name]]
            yield call
            ahead[name] += self._services(call.model).each(self._waiting[call.model])
            at[name] += 1
            if at[name] == len(self._owners[name].calls):
                del at[name]

    def _deadline(self, name: str, at: dict[str, int]) -> float:
        return self._owners[name].calls[at[name]].deadline

    def _take(self, call: Call, cost: float) -> Call:
        owner = self._owners[call.owner]
        owner.served += cost
        self._forget(call)
        return call

    def _forget(self, call: Call) -> None:
        owner = self._owners[call.owner]
        owner.calls.remove(call)
        if not owner.calls:
            # Who has nothing waiting keeps no credit, and no debt beyond what the others have.
            del self._owners[call.owner]
        self._floor = min((other.served for other in self._owners.values()), default=max(self._floor, owner.served))
        if self._waiting[call.model] == 1:
            del self._waiting[call.model]
        else:
            self._waiting[call.model] -= 1

    def _drain(self, now: float) -> float:
        """Seconds until all that waits and runs is done."""
        waiting = sum(count * self._services(model).each(count) for model, count in self._waiting.items())
        return (waiting + sum(max(0.0, done - now) for done in self._running.values())) / self.allowed.lanes


def _order(call: Call) -> tuple[bool, float]:
    return call.order


def _cost(calls: list[Call], count: int, cost: dict[str, float]) -> float:
    """Seconds of the first `count` calls."""
    if len(cost) == 1:
        return count * next(iter(cost.values()))
    return sum(cost[call.model] for call in calls[:count])


def _until(owner: _Owner, served: float, call: Call, cost: dict[str, float]) -> float:
    """Seconds of another owner's calls that go before `call`: until it got as much as `call`'s owner will have had."""
    total = 0.0
    for other in owner.calls:
        if other.background > call.background or owner.served + total > served:
            break
        total += cost[other.model]
    return total
