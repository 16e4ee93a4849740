"""Which replica gets a call."""

import random

import pytest

from edge_mcp.gateway.choice import FORGET_S, MAX_TOOLS, Hedges, Seen, choose, usual_s


class Replica:
    """See choice.Candidate."""

    def __init__(self, needs_s: float | None = None, load: int = 0, rtt_s: float = 0.0) -> None:
        self.seen, self.load, self.rtt_s = Seen(), load, rtt_s
        if needs_s is not None:
            self.seen.answered(self.seen.begin("t", 0.0, 0, needs_s), needs_s, 0.0)


def test_the_one_that_is_done_first_is_chosen() -> None:
    slow, fast = Replica(0.4), Replica(0.1)
    chance = random.Random(1).random
    assert {choose([slow, fast], "t", 1.0, 0.1, 9.0, chance) for _ in range(20)} == {fast}
    for _ in range(5):
        fast.seen.begin("t", 1.0, 0, 0.1)
    assert choose([slow, fast], "t", 1.0, 0.1, 9.0, chance) is slow


def test_the_way_there_and_the_load_count() -> None:
    chance = random.Random(1).random
    far, near = Replica(0.1, rtt_s=0.5), Replica(0.1)
    assert choose([far, near], "t", 0.1, 0.1, 9.0, chance) is near
    hot, cool = Replica(0.1, load=3), Replica(0.2)
    assert choose([hot, cool], "t", 0.2, 0.1, 9.0, chance) is cool


def test_of_many_two_are_looked_at_unless_they_would_be_late() -> None:
    replicas = [Replica(needs) for needs in (0.1, 0.2, 0.4, 0.8, 1.6)]
    chance = random.Random(1).random
    chosen = [choose(replicas, "t", 1.6, 0.4, 9.0, chance) for _ in range(200)]
    assert set(chosen) == set(replicas[:-1]), "the last one never wins"
    assert {choose(replicas, "t", 1.6, 0.4, 0.15, chance) for _ in range(50)} == {replicas[0]}
    assert choose(replicas[:1], "t", 1.6, 0.4, 9.0, lambda: 0.999) is replicas[0]


def test_what_a_call_waited_behind_is_not_what_it_needs() -> None:
    seen = Seen()
    flights = [seen.begin("t", 0.0, 0, 0.1) for _ in range(10)]
    for n, flight in enumerate(flights):
        seen.answered(flight, (n + 1) * 0.2, 0.0)
    needs_s = seen.needs_s("t")
    assert needs_s == pytest.approx(0.2, rel=0.01)
    assert not seen.flights


def test_what_was_seen_long_ago_is_forgotten() -> None:
    replica = Replica(4.0)
    assert replica.seen.finish_s("t", 4.0, 0, 0.1) == pytest.approx(4.0)
    assert replica.seen.finish_s("t", 4.0 + 5 * FORGET_S, 0, 0.1) == pytest.approx(0.1, rel=0.5)


def test_a_call_that_is_overdue_speaks_against_its_replica() -> None:
    replica = Replica(0.1)
    replica.seen.begin("t", 1.0, 0, 0.1)
    assert replica.seen.finish_s("t", 1.1, 0, 0.1) < 0.3
    assert replica.seen.finish_s("t", 3.0, 0, 0.1) > 1.9


def test_who_leaves_learns_only_that_it_took_longer() -> None:
    replica = Replica(0.1)
    replica.seen.left(replica.seen.begin("t", 1.0, 0, 0.1), 1.01, 0.0)
    assert replica.seen.needs_s("t") == pytest.approx(0.1)
    replica.seen.left(replica.seen.begin("t", 2.0, 0, 0.1), 3.0, 0.0)
    assert (replica.seen.needs_s("t") or 0.0) > 0.2
    replica.seen.lost(replica.seen.begin("t", 2.0, 0, 0.1))
    assert not replica.seen.flights


def test_what_is_usual_is_what_the_faster_half_needs() -> None:
    assert usual_s([Replica(0.1), Replica(0.4), Replica()], "t") == 0.1
    assert usual_s([Replica()], "t") == 0.05


def test_tools_that_are_called_no_more_are_forgotten() -> None:
    seen, hedges = Seen(), Hedges()
    for n in range(MAX_TOOLS + 10):
        seen.answered(seen.begin(f"t{n}", n, 0, 0.1), n + 0.1, 0.0)
        for _ in range(20):
            hedges.answered(f"t{n}", 0.1)
    assert seen.needs_s("t0") is None
    assert hedges.called("t0") is None
    assert hedges.called(f"t{MAX_TOOLS}") == 0.1


def test_few_calls_are_made_twice_and_only_when_it_is_known_what_is_long() -> None:
    hedges = Hedges(share=0.1)
    for n in range(19):
        assert hedges.called("t") is None
        hedges.answered("t", n / 100)
    hedges.answered("t", 1.0)
    assert hedges.called("t") == 1.0
    assert hedges.take()
    assert hedges.take()
    assert not hedges.take()
    for _ in range(1000):
        hedges.called("t")
    assert sum(hedges.take() for _ in range(100)) == 4, "they are not saved up"
