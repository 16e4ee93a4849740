"""Whatever comes, and in whatever order: what the policy never does, and what always adds up."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_mcp.scheduling.knee import Curve, Service
from edge_mcp.scheduling.policy import MAX_QUEUED, Allowed, Call, Scheduler

CURVES = {"flat": {1: 1.0, 8: 1.5}, "line": {1: 1.0, 2: 2.0}, "small": {1: 0.01, 4: 0.02}}
deadlines = st.one_of(
    st.floats(0.001, 60), st.sampled_from([0.0, -1.0, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")])
)


class Device(RuleBasedStateMachine):
    """A scheduler, and a device whose runs take what the curve says, times a pace that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.services = {name: Service(Curve(points), 8) for name, points in CURVES.items()}
        self.scheduler = Scheduler(Allowed(1), lambda model: self.services[model])
        self.waiting: list[Call] = []
        self.runs: dict[int, tuple[float, list[Call]]] = {}
        self.count: Counter[str] = Counter()
        self.pace = 1.0

    @rule(
        model=st.sampled_from(sorted(CURVES)),
        deadline=deadlines,
        owner=st.sampled_from(["", "a", "b", "c"]),
        background=st.booleans(),
        number=st.integers(1, 40),
    )
    def come(self, model: str, deadline: float, owner: str, background: bool, number: int) -> None:
        for _ in range(number):
            call = Call(model, self.now + deadline, owner, background)
            idle = self.scheduler.running < self.scheduler.allowed.lanes
            refusal = self.scheduler.admit(self.now, call)
            self.count["came"] += 1
            if refusal is None:
                self.waiting.append(call)
                self.start()
            else:
                self.count["refused"] += 1
                assert refusal.retry_after_s >= 0
                assert not idle or not call.deadline > self.now, "an idle lane takes what has time left"

    @precondition(lambda self: self.runs)
    @rule()
    def end_a_run(self) -> None:
        ticket = min(self.runs, key=lambda one: self.runs[one][0])
        self.now, calls = max(self.now, self.runs[ticket][0]), self.runs[ticket][1]
        del self.runs[ticket]
        self.scheduler.finished(ticket)
        model = calls[0].model
        self.services[model].observe(len(calls), Curve(CURVES[model]).seconds(len(calls)) * self.pace)
        self.scheduler.told(self.now - min(call.deadline for call in calls))
        for call in self.scheduler.expire(self.now):
            self.waiting.remove(call)
            self.count["late"] += 1
            assert call.deadline < self.now + self.services[call.model].seconds(1)
        for call in self.waiting:
            assert call.deadline >= self.now + self.services[call.model].seconds(1), "nothing that is certain to be late waits"
        self.start()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.waiting))
        before = self.scheduler.queued
        assert self.scheduler.withdraw(call)
        assert not self.scheduler.withdraw(call)
        assert self.scheduler.queued == before - 1, "one, and none beside it"
        self.waiting.remove(call)
        self.count["withdrawn"] += 1

    @rule(pace=st.floats(0.1, 10), lanes=st.integers(1, 3), slack=st.sampled_from([0.92, 0.7, 0.5]))
    def change(self, pace: float, lanes: int, slack: float) -> None:
        self.pace, self.scheduler.allowed = pace, Allowed(lanes, slack)
        self.start()

    def start(self) -> None:
        while batch := self.scheduler.release(self.now):
            model, kinds = batch[0].model, {(call.model, call.background) for call in batch}
            assert {one for one, _ in kinds} == {model}
            assert len(batch) <= self.services[model].knee
            assert all(call in self.waiting for call in batch)
            for call in batch:
                self.waiting.remove(call)
            assert batch[0].background is False or all(call.background for call in self.waiting), "background calls go last"
            self.earlier_goes_first(batch)
            ticket = self.scheduler.started(self.now, model, len(batch))
            assert ticket not in self.runs
            self.runs[ticket] = (self.now + Curve(CURVES[model]).seconds(len(batch)) * self.pace, batch)
            self.count["run"] += len(batch)

    def earlier_goes_first(self, batch: list[Call]) -> None:
        """Of one owner nothing that waits is more urgent than what runs, of the same model."""
        for call in batch:
            for other in self.waiting:
                if (other.owner, other.model) == (call.owner, call.model):
                    assert other.order >= call.order

    @invariant()
    def no_lane_is_idle_while_calls_wait(self) -> None:
        assert not self.waiting or self.scheduler.running >= self.scheduler.allowed.lanes

    @invariant()
    def all_adds_up(self) -> None:
        assert self.scheduler.queued == len(self.waiting) <= MAX_QUEUED
        assert self.scheduler.running == len(self.runs)
        ended = sum(self.count[how] for how in ("refused", "run", "late", "withdrawn"))
        assert self.count["came"] == ended + len(self.waiting)
        assert sum(self.scheduler._waiting.values()) == self.scheduler.queued
        assert sum(owner.count for owner in self.scheduler._owners.values()) == self.scheduler.queued

    def teardown(self) -> None:
        """Nothing starves: when no more come, all that waits is run, or told that it is late, in as many runs at most."""
        for _ in range(len(self.waiting) + len(self.runs)):
            if self.runs:
                self.end_a_run()
        assert not self.waiting
        assert not self.runs


Device.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestDevice = Device.TestCase
