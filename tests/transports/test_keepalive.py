"""The policy of keep-alive, with a clock of the tests' own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.transports.keepalive import DEFAULT, Dead, KeepAlive, Ping, Policy, Promise

LEAST_RATE = 1 - DEFAULT.jitter - DEFAULT.early
MOST_RATE = 1 + DEFAULT.jitter
STRETCHES = [load * power for load in (1, 2, 4, 8) for power in (1, 2)]


def ping(alive: KeepAlive, now: float, stall: float = 0.0) -> bytes:
    """The payload of the ping that is due at `now`."""
    step = alive.check(now, stall)
    assert isinstance(step, Ping)
    return step.payload


@pytest.mark.parametrize(
    ("stretch", "near"),
    [(1, 45), (2, 90), (4, 180), (8, 240), (16, 240)],
    ids=["nominal", "warm", "hot", "critical", "battery"],
)
def test_the_interval_grows_with_load_up_to_what_the_path_bears(stretch: float, near: float) -> None:
    assert KeepAlive(DEFAULT, 0.0, stretch=stretch).interval_s == near
    assert KeepAlive(DEFAULT, 0.0, far=True, stretch=stretch).interval_s == 25
    alive = KeepAlive(DEFAULT, 0.0)
    alive.adapt(stretch)
    assert alive.interval_s == near


@pytest.mark.parametrize(
    ("wish", "stretch", "far", "interval"),
    [
        (100, 1, False, 100),
        (100, 1, True, 25),
        (15, 1, True, 15),
        (15, 1, False, 15),
        (0.001, 1, False, 10),
        (86400, 1, False, 240),
        (100, 8, False, 100),
        (15, 2, False, 20),  # in need the server takes as much more as it does for everybody
        (15, 8, False, 80),
        (15, 8, True, 25),  # yet never more than the path bears
    ],
)
def test_a_peer_may_wish_and_the_server_has_the_last_word(wish: float, stretch: float, far: bool, interval: float) -> None:
    alive = KeepAlive(DEFAULT, 0.0, far, stretch)
    alive.wish(wish)
    assert alive.interval_s == alive.promise.interval_s == interval


@pytest.mark.parametrize(("longest", "nominal", "critical"), [(1, 1, 1), (20, 20, 20), (90, 45, 90), (3600, 45, 360)])
def test_the_owner_may_say_how_long_a_silence_may_be(longest: float, nominal: float, critical: float) -> None:
    policy = Policy.within(longest)
    for far in (True, False):
        assert KeepAlive(policy, 0.0, far).interval_s == nominal
        assert KeepAlive(policy, 0.0, far, 8).interval_s == critical


def test_any_byte_in_either_direction_puts_the_ping_off() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    for now in range(0, 1000, 20):
        assert alive.check(now) is None
        alive.heard(now) if now % 40 else alive.sent(now)
    assert 980 + 45 * 0.9 <= alive.next_due() <= 980 + 45 * 1.1


def test_a_peer_that_is_only_sent_to_is_asked_after_two_intervals() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    now = 0.0
    while not isinstance(alive.check(now), Ping):
        alive.sent(now)
        now += 1
    assert 45 * (1 + LEAST_RATE) <= now <= 45 * (1 + MOST_RATE) + 1


def test_two_pings_are_missed_before_a_peer_is_gone() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    first, second = ping(alive, 50), ping(alive, 60)
    assert first != second
    assert alive.check(69.9) is None
    assert alive.check(70) == Dead("no answer to 2 pings, and nothing else for 70 s")
    assert isinstance(alive.check(71), Dead)
    alive.heard(71)
    assert alive.check(71) is None
    assert not alive.waiting


def test_any_byte_answers_a_ping() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    ping(alive, 50)
    ping(alive, 60)
    alive.heard(69)
    assert alive.check(70) is None
    assert isinstance(alive.check(69 + 50), Ping)
    assert isinstance(alive.check(69 + 60), Ping)  # the misses of before are forgotten


def test_the_patience_is_the_retransmission_timeout_of_rfc_6298_within_bounds() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    assert alive.patience_s == 10
    now = 0.0
    for round_trip, patience in [(4.0, 12.0), (4.0, 10.0), (8.0, 13.0), (0.1, 14.725), (60.0, 60.0)]:
        now += 100
        payload = ping(alive, now)
        alive.ponged(payload, now + round_trip)
        assert alive.patience_s == pytest.approx(patience), round_trip


def test_a_round_trip_is_measured_once_for_its_own_pong_and_without_the_servers_stall() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    alive.ponged(b"", 1.0)
    alive.ponged(b"\0\0\0\1", 1.0)
    payload = ping(alive, 100, stall=3.0)
    alive.heard(115)
    alive.ponged(b"another", 116, 3.0)
    alive.ponged(payload, 117, 17.0)  # 17 s, of which the server stood 14
    assert alive.patience_s == 10
    alive.ponged(payload, 150, 17.0)
    assert alive.patience_s == 10
    payload = ping(alive, 300, stall=20.0)
    alive.ponged(payload, 308, 20.0)
    assert alive.patience_s > 10


def test_what_the_server_itself_stood_is_no_silence_of_the_peer() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    ping(alive, 50, 5.0)
    assert alive.check(100, 55.0) is None
    ping(alive, 110, 55.0)
    assert alive.check(1000, 945.0) is None
    assert isinstance(alive.check(1010, 945.0), Dead)


def test_a_ping_behind_bytes_that_move_is_waited_for() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    now = 50.0
    ping(alive, now)
    for _ in range(100):
        now += 9
        alive.moved(now)
        assert alive.check(now) is None
    ping(alive, now + 10)
    assert isinstance(alive.check(now + 20), Dead)


def test_pings_of_a_peer_are_taken_as_long_as_they_are_not_too_many() -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    assert all(alive.peer_pinged(now) for now in range(0, 10_000, 5))
    assert all(alive.peer_pinged(20_000) for _ in range(16))
    assert not alive.peer_pinged(20_000)


@given(st.floats(0.0, 4.9))
def test_a_peer_that_goes_on_pinging_too_often_is_refused(gap: float) -> None:
    alive = KeepAlive(DEFAULT, 0.0)
    assert not all(alive.peer_pinged(gap * n) for n in range(2000))


def test_a_promise_is_told_anew_when_it_is_another_by_more_than_a_quarter() -> None:
    promise = Promise(40, 20)
    assert not promise.differs_much(Promise(50, 16))
    for other in (Promise(51, 20), Promise(31, 20), Promise(40, 26), Promise(40, 15)):
        assert promise.differs_much(other)
        assert other.differs_much(promise)


# A server and its peer, second by second: what happens is drawn.

EVENTS = st.lists(
    st.tuples(st.floats(0.05, 30.0), st.sampled_from(["heard", "sent", "load", "nothing", "wish", "ping", "stall"])),
    max_size=60,
)


class Served:
    """A server that looks when something is due, and is told the truth about its own stalls."""

    def __init__(self, far: bool, stretch: float) -> None:
        self.now = self.stall = 0.0
        self.alive = KeepAlive(DEFAULT, 0.0, far, stretch)
        self.pings: list[float] = []
        self.payloads: list[bytes] = []
        self.dead: float | None = None

    def until(self, then: float, answers_after: float | None) -> None:
        """Let time pass; pings are answered after so many seconds, or never."""
        while self.dead is None:
            pong = self.pings[-1] + answers_after if self.alive.waiting and answers_after is not None else float("inf")
            due = min(self.alive.next_due(self.stall), pong)
            if due > then:
                break
            self.now = max(self.now, due)
            if self.now >= pong:
                self.alive.ponged(self.payloads[-1], self.now, self.stall)
            match self.alive.check(self.now, self.stall):
                case Ping(payload):
                    self.pings.append(self.now)
                    self.payloads.append(payload)
                case Dead():
                    self.dead = self.now
        self.now = max(self.now, then)

    def happen(self, event: str, value: float) -> None:
        match event:
            case "heard":
                self.alive.heard(self.now)
            case "sent":
                self.alive.sent(self.now)
            case "ping":
                self.alive.peer_pinged(self.now)
            case "load":
                self.alive.adapt(STRETCHES[int(value) % len(STRETCHES)])
            case "wish":
                self.alive.wish(value * 10)
            case "stall":
                self.now += value
                self.stall += value


@given(EVENTS, st.booleans(), st.sampled_from(STRETCHES), st.floats(0.0, 9.9))
def test_a_peer_that_answers_is_never_taken_for_gone_whatever_else_happens(
    events: list[tuple[float, str]], far: bool, stretch: float, round_trip: float
) -> None:
    served = Served(far, stretch)
    for seconds, event in events:
        served.until(served.now + seconds, round_trip)
        served.happen(event, seconds)
    served.until(served.now + 2000, round_trip)
    assert served.dead is None
    assert served.pings


@given(EVENTS, st.booleans(), st.sampled_from(STRETCHES))
def test_a_peer_that_dies_is_found_within_the_promise(events: list[tuple[float, str]], far: bool, stretch: float) -> None:
    served = Served(far, stretch)
    for seconds, event in events:
        served.until(served.now + seconds, 0.1)
        served.happen(event, seconds)
    promise, died = served.alive.promise, served.now
    served.until(died + 1000, None)
    assert served.dead is not None
    intervals = 2 if any(event == "sent" for _, event in events) else 1
    assert served.dead - died <= promise.interval_s * intervals + promise.grace_s


@given(EVENTS)
def test_the_servers_own_stalls_are_added_to_the_promise_and_nothing_else(stalls: list[tuple[float, str]]) -> None:
    served = Served(far=False, stretch=1)
    for seconds, _ in stalls:
        if served.dead is None:
            served.until(served.now + 3, None)
            served.happen("stall", seconds)
    served.until(served.now + 1000, None)
    assert served.dead is not None
    promise = served.alive.promise
    least = promise.interval_s * LEAST_RATE + 2 * DEFAULT.patience_s
    assert least <= served.dead <= promise.interval_s + promise.grace_s + served.stall


@given(st.floats(0.05, 20.0), st.booleans(), st.sampled_from(STRETCHES))
def test_while_frames_arrive_nobody_is_taken_for_gone(gap: float, far: bool, stretch: float) -> None:
    served = Served(far, stretch)
    for _ in range(200):
        served.until(served.now + gap, None)
        served.happen("heard", 0.0)
    assert served.dead is None


@given(st.floats(0.0, 9.0), st.booleans(), st.sampled_from(STRETCHES))
def test_a_silent_peer_is_pinged_neither_more_nor_less_often_than_promised(
    round_trip: float, far: bool, stretch: float
) -> None:
    served = Served(far, stretch)
    served.until(20_000, round_trip)
    interval = served.alive.promise.interval_s
    gaps = [later - earlier - round_trip for earlier, later in pairwise(served.pings)]
    assert min(gaps) >= interval * LEAST_RATE - 1e-6
    assert max(gaps) <= interval * MOST_RATE + 1e-6
    assert len({round(gap, 6) for gap in gaps}) > len(gaps) / 2  # they spread


def test_other_figures() -> None:
    policy = Policy(base_s=0.4, least_s=0.1, patience_s=0.2, most_patience_s=1.0, misses=3, tick_s=0.01)
    alive = KeepAlive(policy, 0.0)
    for now in (0.5, 0.7, 0.9):
        ping(alive, now)
    assert isinstance(alive.check(1.1), Dead)
    assert alive.promise.interval_s == 0.4
    assert alive.promise.grace_s == pytest.approx(0.4 * 0.1 + 3 * 0.2 + 4 * 0.01)
