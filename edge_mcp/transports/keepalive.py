"""When a silent peer is pinged, and when it is taken for gone: pure, with one small object for each connection.

How often to ask (traffic, load, power, path) and when to judge (round trips, the server's own stalls) are two things: a busy
server asks less often, and a slow answer is no dead peer. `wheel.py` keeps the time for all connections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import random

PAYLOAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Policy:
    """The figures, in seconds. An interval is `base_s`, longer under load and on battery, and at most what the path bears.

    `far_s` is below the 30 s after which the hastiest proxies and address translators forget a silent connection, `near_s`
    is for a peer on the same link. A ping's answer is waited for `patience_s` to `most_patience_s`; `misses` in a row that do
    not come end the connection. A peer may ping `peer_pings` times at once, and then every `peer_ping_s`.
    """

    base_s: float = 45.0
    least_s: float = 10.0
    far_s: float = 25.0
    near_s: float = 240.0
    jitter: float = 0.1
    early: float = 0.2
    """A ping may go by this share of its interval sooner, beside another one: that costs no wake-up of its own."""
    patience_s: float = 10.0
    most_patience_s: float = 60.0
    misses: int = 2
    peer_ping_s: float = 5.0
    peer_pings: int = 16
    tick_s: float = 1.0
    """How exactly the wheel keeps all these times."""

    @classmethod
    def within(cls, longest_s: float) -> "Policy":
        """No silence longer than `longest_s`, whatever the path."""
        return cls(far_s=longest_s, near_s=longest_s)


DEFAULT = Policy()


@dataclass(frozen=True, slots=True)
class Pace:
    """What load and power make of the intervals: `stretch` times as long. `state` is the device's, in a word."""

    stretch: float = 1.0
    state: str = "nominal"


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping with `payload`."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Dead:
    """The peer is gone: `reason` in one line."""

    reason: str


@dataclass(frozen=True, slots=True)
class Promise:
    """What a peer is told: it is pinged after `interval_s` of silence, and given up after `grace_s` more without an answer.

    A peer that dies is found within both together (one interval later where the server goes on sending to it), not counting
    time in which the server itself stood.
    """

    interval_s: float
    grace_s: float

    def differs_much(self, other: "Promise") -> bool:
        """Whether one of the two times is by more than a quarter another one."""
        pairs = ((self.interval_s, other.interval_s), (self.grace_s, other.grace_s))
        return any(max(pair) > 1.25 * min(pair) for pair in pairs)


class KeepAlive:
    """One connection's. Times are monotonic seconds; `stall` is how long the server has stood since its start, all in all.

    `far`: there is a proxy or a router between, so the path may forget. `stretch` multiplies the interval: load and power.
    `chance` gives numbers from 0 to 1, for the jitter of each ping.
    """

    __slots__ = (
        "_chance", "_far", "_heard", "_jitter", "_misses", "_number", "_pinged", "_policy", "_rttvar", "_sent", "_srtt",
        "_stall", "_stretch", "_strikes", "_struck", "_timing", "_wish", "waiting",
    )  # fmt: skip

    def __init__(
        self, policy: Policy, now: float, far: bool = False, stretch: float = 1.0, chance: Callable[[], float] = random
    ) -> None:
        self.waiting = False
        """Whether a ping is not answered yet."""
        self._policy = policy
        self._far = far
        self._stretch = stretch
        self._chance = chance
        self._wish: float | None = None
        self._heard = self._sent = self._pinged = self._struck = now
        self._stall = 0.0
        self._misses = 0
        self._number = 0
        self._timing = False
        self._strikes = 0.0
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._jitter = self._drawn()

    @property
    def interval_s(self) -> float:
        """After so long a silence the peer is pinged, within the jitter."""
        policy = self._policy
        wanted = policy.base_s * self._stretch if self._wish is None else self._wish
        # What a peer wishes may be dear to the server, which then takes as much more as it does for everybody.
        return min(policy.far_s if self._far else policy.near_s, max(policy.least_s * self._stretch, wanted))

    @property
    def patience_s(self) -> float:
        """So long a ping's answer is waited for: the retransmission timeout of RFC 6298, within bounds."""
        measured = 0.0 if self._srtt is None else self._srtt + 4 * self._rttvar
        return min(self._policy.most_patience_s, max(self._policy.patience_s, measured))

    @property
    def promise(self) -> Promise:
        """What holds now."""
        policy = self._policy
        rounding = policy.jitter * self.interval_s + (policy.misses + 1) * policy.tick_s
        return Promise(self.interval_s, policy.misses * self.patience_s + rounding)

    def wish(self, interval_s: float) -> None:
        """The peer asks for another interval; `interval_s` is then what it gets."""
        self._wish = interval_s

    def adapt(self, stretch: float) -> None:
        """Load or power is another one."""
        self._stretch = stretch

    def heard(self, now: float) -> None:
        """Bytes came from the peer: whatever they are, it lives."""
        self._heard = now
        self._misses = 0
        self.waiting = False

    def sent(self, now: float) -> None:
        """A frame left for the peer, or bytes that waited for it did."""
        self._sent = now

    def ponged(self, payload: bytes, now: float, stall: float = 0.0) -> None:
        """A pong came; one that answers the last ping measures the round trip, without the server's own stall."""
        if self._timing and payload == self._payload():
            self._timing = False
            self._measure(max(0.0, now - self._pinged - (stall - self._stall)))
        self.heard(now)

    def peer_pinged(self, now: float) -> bool:
        """A ping came; False when they come too often: end it with 1008 (gRPC: GOAWAY with `too_many_pings`)."""
        self.heard(now)
        policy = self._policy
        self._strikes = max(0.0, self._strikes - (now - self._struck) / policy.peer_ping_s) + 1
        self._struck = now
        return self._strikes <= policy.peer_pings

    def moved(self, now: float) -> None:
        """What was queued before the ping has moved on: its answer is waited for from now on."""
        self._pinged = max(self._pinged, now)

    def check(self, now: float, stall: float = 0.0) -> Ping | Dead | None:
        """What is to be done at `now`. Asked again, a Dead is told again, unless the peer was heard."""
        early = 0.0 if self.waiting else self._policy.early * self.interval_s
        if now < self.next_due(stall) - early:
            return None
        if self.waiting and self._misses + 1 >= self._policy.misses:
            silent = now - self._heard
            return Dead(f"no answer to {self._policy.misses} pings, and nothing else for {silent:.0f} s")
        self._misses += self.waiting
        self.waiting = self._timing = True
        self._number = (self._number + 1) % 256**PAYLOAD_BYTES
        self._pinged = self._sent = now
        self._stall = stall
        self._jitter = self._drawn()
        return Ping(self._payload())

    def next_due(self, stall: float = 0.0) -> float:
        """When `check` has something to say, if nothing happens before."""
        if self.waiting:
            return self._pinged + self.patience_s + (stall - self._stall)
        interval = self.interval_s
        # Sending keeps the path open, and tells nothing about the peer: it puts a ping off by one interval.
        since = max(self._heard, min(self._sent, self._heard + interval))
        return since + interval * self._jitter

    def _payload(self) -> bytes:
        return self._number.to_bytes(PAYLOAD_BYTES)

    def _drawn(self) -> float:
        return 1 + self._policy.jitter * (2 * self._chance() - 1)

    def _measure(self, seconds: float) -> None:
        """RFC 6298, 2.2 and 2.3."""
        if self._srtt is None:
            self._srtt, self._rttvar = seconds, seconds / 2
        else:
            self._rttvar += (abs(self._srtt - seconds) - self._rttvar) / 4
            self._srtt += (seconds - self._srtt) / 8
