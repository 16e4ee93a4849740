"""One timer for the keep-alive of all connections: as many sockets as there are cost one wake-up, and none costs none."""

import asyncio
import logging
from collections.abc import Callable
from math import ceil
from random import random
from typing import Any, Protocol

from edge_mcp.transports import kernel
from edge_mcp.transports.keepalive import DEFAULT, Dead, KeepAlive, Pace, Ping, Policy, Promise

logger = logging.getLogger(__name__)

BEAT_S = 0.25
"""While an answer is waited for: how late a timer of this time comes tells how long the loop stood."""
MOVING_BYTES = 4096
"""That arrived at the peer since it was pinged: more than pings, which the kernel of a program that hangs takes too."""
MAX_EARLY = 256
"""So many pings go early, beside one that is due."""


class Line(Protocol):
    """A connection, as the wheel needs it."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The socket's; None once it is closed."""
        ...

    def ping(self, payload: bytes) -> None:
        """Send a ping at once, without waiting for room. Never raises."""
        ...

    async def drain(self) -> None:
        """Read what lies in the kernel; `Beat.heard` is called if there was something."""
        ...

    def drop(self, reason: str) -> None:
        """The peer is gone: end the connection without waiting for it. Never raises."""
        ...


class Beat:
    """One connection's place on the wheel: tell it what happens, and `close` it at the end.

    `changed` is called when the peer should hear of another promise (`announce`).
    """

    __slots__ = ("_loop", "_wheel", "arrived", "changed", "keepalive", "line", "slot", "told")

    def __init__(self, wheel: "Wheel", line: Line, keepalive: KeepAlive, loop: asyncio.AbstractEventLoop) -> None:
        self.line = line
        self.keepalive = keepalive
        self.changed: Callable[[], None] | None = None
        self.told: Promise | None = None
        self.arrived = 0
        self.slot: int | None = None
        self._wheel = wheel
        self._loop = loop

    def heard(self) -> None:
        """Bytes came, whatever they are: call it where they are read, and not only for whole messages."""
        waiting = self.keepalive.waiting
        self.keepalive.heard(self._loop.time())
        if waiting:
            self._wheel.answered(self)

    def sent(self) -> None:
        """A frame left."""
        self.keepalive.sent(self._loop.time())

    def ponged(self, payload: bytes) -> None:
        """A pong came: its round trip is measured. (`heard` may have been told of its bytes already.)"""
        waiting = self.keepalive.waiting
        now = self._loop.time()
        self.keepalive.ponged(payload, now, self._wheel.stall(now))
        if waiting:
            self._wheel.answered(self)
        self.tell()

    def pinged(self) -> bool:
        """A ping came; False when they come too often: end the connection with 1008."""
        self.heard()
        return self.keepalive.peer_pinged(self._loop.time())

    def wish(self, interval_s: float) -> None:
        """The peer asks for another interval; `announce` says what it gets."""
        self.keepalive.wish(interval_s)
        self._wheel.replace(self)

    def announce(self) -> dict[str, Any]:
        """What the peer is told under `io.edge-mcp/keepalive`."""
        self.told = promise = self.keepalive.promise
        return {
            "intervalMs": round(promise.interval_s * 1000),
            "graceMs": ceil(promise.grace_s * 1000),
            "state": self._wheel.pace.state,
        }

    def tell(self) -> None:
        """Have the peer told anew if what it knows is much different."""
        if self.changed is not None and self.told is not None and self.told.differs_much(self.keepalive.promise):
            self.changed()

    def close(self) -> None:
        """The connection has ended. Idempotent."""
        self._wheel.remove(self)


class Wheel:
    """Slots of `policy.tick_s`, each with the connections that have something due in it.

    `pace` is asked at each tick; `chance` gives numbers from 0 to 1, for the jitter of each tick's pings.
    """

    def __init__(self, policy: Policy = DEFAULT, pace: Callable[[], Pace] = Pace, chance: Callable[[], float] = random) -> None:
        self.pace = pace()
        self.wakeups = 0
        """How often the timers came, since the start."""
        self.policy = policy
        """Of connections that come: another one may take its place, with the same `tick_s`."""
        self._ask = pace
        self._beats: set[Beat] = set()
        self._slots: dict[int, set[Beat]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed: int | None = None
        self._waiting: set[Beat] = set()
        self._heart: asyncio.TimerHandle | None = None
        self._stood = 0.0
        self._draw = chance
        self._jitter = chance()
        self._judging: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._beats)

    def add(self, line: Line, far: bool = False) -> Beat:
        """Keep a connection alive; `far`: there is a proxy or a router between."""
        loop = asyncio.get_running_loop()
        self._adapt()
        beat = Beat(self, line, KeepAlive(self.policy, loop.time(), far, self.pace.stretch, lambda: self._jitter), loop)
        self._beats.add(beat)
        self.replace(beat)
        return beat

    def remove(self, beat: Beat) -> None:
        """See Beat.close."""
        self._beats.discard(beat)
        self._waiting.discard(beat)
        self._take(beat)
        self._arm()
        if not self._waiting:
            self._rest()

    def replace(self, beat: Beat) -> None:
        """What is due with a connection is due at another time."""
        if beat not in self._beats:
            return
        self._watch(beat)
        self._place(beat)
        self._arm()

    def answered(self, beat: Beat) -> None:
        """A connection of which something was waited for was heard."""
        self._waiting.discard(beat)
        if not self._waiting:
            self._rest()
        if beat in self._beats:
            self._place(beat)
            self._arm()

    def stall(self, now: float) -> float:
        """For how long the loop has stood since the start, as far as it mattered, in seconds."""
        return self._stood + (0.0 if self._heart is None else max(0.0, now - self._heart.when()))

    def close(self) -> None:
        """Forget all connections."""
        for beat in list(self._beats):
            self.remove(beat)
        for task in self._judging:
            task.cancel()

    # The timer

    def _arm(self) -> None:
        first = min(self._slots, default=None)
        if first == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed, self._timer = first, None
        if first is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(first * self.policy.tick_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._armed is not None  # noqa: S101 - narrows the type for mypy
        self.wakeups += 1
        now = max(loop.time(), self._armed * self.policy.tick_s)  # the loop's clock may come a nanosecond early
        self._timer = self._armed = None
        # The same for all that go with this tick: they stay together, and meet others in time.
        self._jitter = self._draw()
        self._adapt()
        for slot in [slot for slot in self._slots if slot * self.policy.tick_s <= now]:
            for beat in list(self._slots.get(slot, ())):
                self._check(beat, now)
        for beat in self._early(now):
            self._check(beat, now)
        self._arm()

    def _early(self, now: float) -> list[Beat]:
        """Those whose pings may as well go now."""
        reach = now + self.policy.early * self.policy.near_s
        found: list[Beat] = []
        for slot in sorted(slot for slot in self._slots if slot * self.policy.tick_s <= reach):
            found += [beat for beat in self._slots[slot] if not beat.keepalive.waiting]
            if len(found) >= MAX_EARLY:
                break
        return found[:MAX_EARLY]

    def _adapt(self) -> None:
        """Ask for the pace, and tell all if it is another one."""
        pace, before = self._ask(), self.pace
        self.pace = pace
        if pace.stretch == before.stretch:
            return
        for beat in list(self._beats):
            beat.keepalive.adapt(pace.stretch)
            self._watch(beat)
            if not beat.keepalive.waiting:
                self._place(beat)
            beat.tell()

    def _check(self, beat: Beat, now: float) -> None:
        if beat.keepalive.waiting and self._moved(beat):
            beat.keepalive.moved(now)
        match beat.keepalive.check(now, self.stall(now)):
            case Ping(payload):
                beat.arrived = kernel.acknowledged(beat.line.transport)
                self._waiting.add(beat)
                self._listen()
                beat.line.ping(payload)
            case Dead():
                self._take(beat)
                task = asyncio.get_running_loop().create_task(self._judge(beat))
                self._judging.add(task)
                task.add_done_callback(self._judging.discard)
                return
            case None:
                pass
        if beat in self._beats:
            self._place(beat)

    def _moved(self, beat: Beat) -> bool:
        """Whether the peer takes bytes: a ping behind a long message on a slow path is late and not lost."""
        before, beat.arrived = beat.arrived, kernel.acknowledged(beat.line.transport)
        return beat.arrived - before > MOVING_BYTES

    async def _judge(self, beat: Beat) -> None:
        """Read what the peer has sent before it is taken for gone."""
        await beat.line.drain()
        if kernel.unread(beat.line.transport):  # the server is behind, not the peer
            beat.heard()
        now = asyncio.get_running_loop().time()
        verdict = beat.keepalive.check(now, self.stall(now)) if beat in self._waiting else None
        if isinstance(verdict, Dead):
            logger.debug("%s", verdict.reason)
            self.remove(beat)
            beat.line.drop(verdict.reason)
        elif beat in self._beats:
            self._place(beat)
            self._arm()

    def _place(self, beat: Beat) -> None:
        self._take(beat)
        stall = self.stall(asyncio.get_running_loop().time())
        beat.slot = ceil(beat.keepalive.next_due(stall) / self.policy.tick_s)
        self._slots.setdefault(beat.slot, set()).add(beat)

    def _take(self, beat: Beat) -> None:
        slot, beat.slot = beat.slot, None
        if slot is not None:
            beats = self._slots[slot]
            beats.discard(beat)
            if not beats:
                del self._slots[slot]

    def _watch(self, beat: Beat) -> None:
        """The kernel ends the connection no earlier than was promised, for the case that the loop sleeps."""
        promise, policy = beat.keepalive.promise, self.policy
        kernel.watch(beat.line.transport, promise.interval_s + promise.grace_s, policy.patience_s, policy.misses)

    # How long the loop stood

    def _listen(self) -> None:
        if self._heart is None:
            self._heart = asyncio.get_running_loop().call_later(BEAT_S, self._throb)

    def _throb(self) -> None:
        self.wakeups += 1
        self._rest()
        if self._waiting:
            self._listen()

    def _rest(self) -> None:
        if self._heart is not None:
            self._stood = self.stall(asyncio.get_running_loop().time())
            self._heart.cancel()
            self._heart = None
