"""Which calls run, with which others, and which are refused."""

import pytest

from edge_mcp.scheduling.knee import Curve, Service
from edge_mcp.scheduling.policy import MAX_QUEUED, MAX_RESTED, Allowed, Call, Scheduler
from tests.scheduling.peers import Aimd, Fifo, Window
from tests.scheduling.simulation import Make, ours, simulate

FLAT = Curve({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0})
LINEAR = Curve({1: 1.0, 2: 2.0})


def scheduler(lanes: int = 1, curve: Curve = FLAT, most: int = 8, slack: float = 1.0) -> Scheduler:
    service = Service(curve, most)
    return Scheduler(Allowed(lanes, slack), lambda model: service)


def run(scheduler: Scheduler, now: float = 0.0) -> list[Call]:
    batch = scheduler.release(now)
    if batch:
        scheduler.started(now, batch[0].model, len(batch))
    return batch


def test_an_idle_lane_takes_a_call_at_once_and_alone() -> None:
    ready = scheduler(lanes=2)
    calls = [Call("a", 10), Call("a", 10)]
    for call in calls:
        assert ready.admit(0, call) is None
        assert run(ready) == [call]


def test_while_all_lanes_are_busy_calls_gather_to_a_batch() -> None:
    ready = scheduler()
    ready.admit(0, Call("a", 10))
    run(ready)
    waiting = [Call("a", 10 + n) for n in range(10)]
    for call in waiting:
        assert ready.admit(0, call) is None
    assert ready.release(0) == []
    ready.finished(1)
    assert run(ready, 1) == waiting[:8]
    ready.finished(2)
    assert run(ready, 2) == waiting[8:]


def test_the_earliest_deadline_goes_first_over_all_models() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    late, soon = Call("a", 90), Call("b", 50)
    ready.admit(0, Call("c", 100))
    run(ready)
    ready.admit(0, late)
    ready.admit(0, soon)
    ready.finished(1)
    assert run(ready) == [soon]


def test_background_calls_wait_for_all_others() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    ready.admit(0, Call("a", 100))
    run(ready)
    idle, urgent = Call("a", 20, background=True), Call("a", 90)
    other = Call("a", 95, owner="other")
    for call in (idle, urgent, other):
        ready.admit(0, call)
    for ticket in (1, 2):
        ready.finished(ticket)
        assert run(ready)[0] in (urgent, other)
    ready.finished(3)
    assert run(ready) == [idle]


def test_a_batch_is_no_larger_than_still_meets_the_earliest_deadline() -> None:
    ready = scheduler(curve=Curve({1: 1.0, 4: 2.0, 8: 3.0}))
    ready.admit(0, Call("a", 100))
    run(ready)
    for deadline in (3.6, *[100] * 7):
        assert ready.admit(0, Call("a", deadline)) is None
    ready.finished(1)
    assert len(run(ready, 1.0)) == 6  # 2.5 s of the 2.6 s that are left


def test_a_call_that_is_late_already_does_not_make_small_batches() -> None:
    ready = scheduler()
    ready.admit(0, Call("a", 100))
    run(ready)
    for _ in range(8):
        ready.admit(0, Call("a", 5))
    ready.finished(1)
    assert len(run(ready, 4.5)) == 8


def test_a_call_that_would_come_too_late_is_refused_at_once() -> None:
    ready = scheduler(curve=LINEAR, most=1, slack=0.5)
    ready.admit(0, Call("a", 100))
    run(ready)
    assert ready.admit(0, Call("a", 5)) is None
    refusal = ready.admit(0, Call("a", 5))
    assert refusal is not None
    assert (refusal.why, refusal.queued) == ("deadline", 1)
    assert refusal.retry_after_s == pytest.approx(0.5, abs=0.01)


def test_after_calls_that_came_late_more_room_is_given_for_a_while() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    ready.admit(0, Call("a", 100))
    run(ready)
    ready.told(1.0)
    assert ready.admit(0, Call("a", 2.2)) is not None
    for _ in range(20):
        ready.told(-1.0)
    assert ready.admit(0, Call("a", 2.2)) is None


def test_with_an_idle_lane_nothing_is_refused() -> None:
    ready = scheduler(curve=LINEAR)
    assert ready.admit(0, Call("a", 0.1)) is None


def test_the_queue_is_bounded_and_nobody_has_more_of_it_than_is_left() -> None:
    ready = scheduler()

    def fill(owner: str) -> int:
        for count in range(MAX_QUEUED):
            if refusal := ready.admit(0, Call("a", 1e9, owner)):
                assert refusal.why == "queue"
                assert refusal.retry_after_s > 0
                return count
        raise AssertionError("no bound")

    assert [fill(f"{number}") for number in range(5)] == [MAX_QUEUED >> number for number in range(1, 6)]
    for number in range(MAX_QUEUED):
        ready.admit(0, Call("a", 1e9, f"more {number}"))
    assert ready.queued == MAX_QUEUED


@pytest.mark.parametrize("deadline", [5.0, 4.9, 0.0, -1e308, float("-inf"), float("nan")])
def test_whose_deadline_is_over_when_it_comes_is_refused_by_an_idle_lane_too(deadline: float) -> None:
    ready = scheduler()
    refusal = ready.admit(5.0, Call("a", deadline))
    assert refusal is not None
    assert (refusal.why, refusal.retry_after_s, ready.queued) == ("deadline", 0.0, 0)


def test_what_came_to_be_late_while_it_waited_is_not_run() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    ready.admit(0, Call("a", 100))
    run(ready)
    calls = [Call("b", 4, background=True), Call("a", 4), Call("a", 9), Call("a", 7, "other")]
    for call in calls:
        assert ready.admit(0, call) is None
    assert ready.expire(3) == []
    assert ready.expire(3.1) == calls[:2]
    assert ready.queued == 2


def test_who_always_has_one_call_waiting_gets_no_more_than_its_share() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    ready.admit(0, Call("a", 1e6, "patient"))
    run(ready)
    for _ in range(100):
        assert ready.admit(0, Call("a", 1e6, "patient")) is None
    owners: list[str] = []
    for ticket in range(1, 41):
        assert ready.admit(0, Call("a", 1000, "hasty")) is None or owners[-1:] == ["patient"]
        ready.finished(ticket)
        owners += [call.owner for call in run(ready)]
    assert owners.count("patient") >= 19


def test_what_owners_got_is_not_kept_for_ever() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    for number in range(2000):
        assert ready.admit(0, Call("a", 1e6, f"{number}")) is None
        ready.finished(number)
        run(ready)
    assert len(ready._rested) <= MAX_RESTED
    assert len(ready._owners) == 0


def test_a_call_is_withdrawn_and_harms_none_beside_it() -> None:
    ready = scheduler()
    ready.admit(0, Call("a", 100))
    run(ready)
    calls = [Call("a", 10) for _ in range(3)]
    for call in calls:
        ready.admit(0, call)
    assert ready.withdraw(calls[1])
    assert not ready.withdraw(calls[1])
    assert ready.queued == 2
    ready.finished(1)
    assert run(ready) == [calls[0], calls[2]]
    assert not ready.withdraw(calls[0])


def test_between_owners_the_one_that_got_less_goes_first() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    ready.admit(0, Call("a", 1000, "greedy"))
    run(ready)
    for _ in range(50):
        ready.admit(0, Call("a", 1000, "greedy"))
    polite = Call("a", 2000, "polite")
    assert ready.admit(0, polite) is None
    order = []
    for ticket in (1, 2, 3):
        ready.finished(ticket)
        order += run(ready)
    assert polite in order[:2]


def test_a_greedy_owner_does_not_get_another_one_refused() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    while ready.admit(0, Call("a", 20, "greedy")) is None:
        run(ready)
    assert ready.admit(0, Call("a", 20, "greedy")) is not None
    assert ready.admit(0, Call("a", 20, "polite")) is None


def test_who_waits_seldom_has_no_credit_to_spend() -> None:
    ready = scheduler(curve=LINEAR, most=1)
    ready.admit(0, Call("a", 1000, "busy"))
    run(ready)
    for ticket in range(1, 40):
        ready.admit(0, Call("a", 1000, "busy"))
        ready.finished(ticket)
        run(ready)
    for _ in range(6):
        ready.admit(0, Call("a", 1000, "busy"))
        ready.admit(0, Call("a", 1000, "rare"))
    owners = []
    for ticket in range(40, 52):
        ready.finished(ticket)
        owners += [call.owner for call in run(ready)]
    assert owners[:6].count("busy") >= 2


@pytest.mark.parametrize("model", ["silero", "dscnn", "mobilenet-small", "mobilenet"])
@pytest.mark.parametrize("load", [0.5, 1.5, 4])
def test_under_overload_and_throttling_what_can_be_done_in_time_is_done(model: str, load: float) -> None:
    seconds = {"silero": 4, "dscnn": 4, "mobilenet-small": 5, "mobilenet": 20}[model]
    calls = min(
        40_000, int(seconds * load / {"silero": 137e-6, "dscnn": 98e-6}.get(model, 322e-6 if "small" in model else 2.2e-3))
    )
    told, _ = simulate(model, load, calls)
    assert told.in_time >= 0.9 * told.possible
    # What was taken before the throttling began is late: that of one deadline, and never more.
    assert told.wasted <= max(0.01, 2 * told.deadlines)


@pytest.mark.parametrize("peer", [Fifo, Window, Aimd])
def test_who_refuses_nothing_is_far_behind_under_overload(peer: Make) -> None:
    told, _ = simulate("mobilenet-small", 3, 20_000)
    other, _ = simulate("mobilenet-small", 3, 20_000, peer)
    assert other.in_time < 0.1 * told.in_time
    assert other.wasted > 0.5


@pytest.mark.parametrize("peer", [Fifo, Window, Aimd])
@pytest.mark.parametrize("model", ["silero", "mobilenet-small"])
def test_with_little_to_do_ours_is_no_worse_than_any(model: str, peer: Make) -> None:
    told, _ = simulate(model, 0.5, 10_000, ours)
    other, _ = simulate(model, 0.5, 10_000, peer)
    assert told.in_time >= other.in_time - 0.001


def test_under_overload_a_small_client_gets_all_that_it_asks_for() -> None:
    _, answered = simulate("mobilenet-small", 3, 30_000, owners=(("greedy", 0.97), ("polite", 0.03)))
    assert sum(answered["polite"]) >= 0.97 * len(answered["polite"])
