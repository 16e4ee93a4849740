"""The wheel on a loop whose time is made: days take seconds, and stalls are as long as a test likes."""

import asyncio
import gc
import random
import tracemalloc
from functools import partial
from itertools import pairwise
from typing import cast

import pytest

from edge_mcp.transports.keepalive import DEFAULT, Pace
from edge_mcp.transports.wheel import BEAT_S, Beat, Wheel
from tests.transports.virtual import VirtualLoop, run

HOUR_S = 3600.0


def virtual() -> VirtualLoop:
    return cast(VirtualLoop, asyncio.get_running_loop())


class Peer:
    """A peer behind a line without a socket: what it sends arrives after `round_trip_s`, and is read unless `behind`."""

    transport = None

    def __init__(self, wheel: Wheel, round_trip_s: float = 0.001, far: bool = False) -> None:
        self.round_trip_s = round_trip_s
        self.alive = True
        self.behind = False
        self.pinged_at: list[float] = []
        self.dropped: list[tuple[float, str]] = []
        self.beat: Beat = wheel.add(self, far)
        self._unread: list[bytes] = []
        self._wheel = wheel

    def ping(self, payload: bytes) -> None:
        """See Line."""
        self.pinged_at.append(virtual().time())
        if self.alive:
            virtual().call_later(self.round_trip_s, self._arrive, payload)

    async def drain(self) -> None:
        """See Line."""
        await asyncio.sleep(0)
        while self._unread:
            self.beat.ponged(self._unread.pop(0))

    def drop(self, reason: str) -> None:
        """See Line."""
        self.dropped.append((virtual().time(), reason))

    def _arrive(self, payload: bytes) -> None:
        if self.behind:
            self._unread.append(payload)
        elif not self.dropped:
            self.beat.ponged(payload)


def test_nobody_connected_costs_nothing() -> None:
    async def main() -> None:
        wheel = Wheel()
        peers = [Peer(wheel) for _ in range(3)]
        await asyncio.sleep(1000)
        for peer in peers:
            peer.beat.close()
            peer.beat.close()
            peer.beat.heard()
            peer.beat.wish(3)
        assert len(wheel) == 0
        with pytest.raises(RuntimeError, match="nothing will ever happen"):
            await virtual().create_future()

    loop = VirtualLoop()
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        loop.run_until_complete(main())
    loop.close()


def test_many_connections_share_their_wake_ups() -> None:
    async def main() -> None:
        wheel = Wheel()
        peers = []
        for _ in range(100):
            await asyncio.sleep(0.77)
            peers.append(Peer(wheel))
        await asyncio.sleep(HOUR_S)
        ticks, pings, started = wheel.wakeups, sum(len(peer.pinged_at) for peer in peers), virtual().time()
        await asyncio.sleep(HOUR_S)
        assert virtual().time() - started == HOUR_S
        assert wheel.wakeups - ticks <= HOUR_S / (DEFAULT.base_s * (1 - DEFAULT.jitter))
        pings = sum(len(peer.pinged_at) for peer in peers) - pings
        assert pings <= 100 * HOUR_S / (DEFAULT.base_s * (1 - DEFAULT.jitter - DEFAULT.early))
        assert not any(peer.dropped for peer in peers)
        wheel.close()

    run(main())


def test_a_dead_peer_is_dropped_within_the_promise_and_the_others_stay() -> None:
    async def main() -> None:
        wheel = Wheel()
        peers = [Peer(wheel, far=number % 2 == 0) for number in range(20)]
        await asyncio.sleep(100)
        died = virtual().time()
        for peer in peers[:10]:
            peer.alive = False
        await asyncio.sleep(200)
        for peer in peers[:10]:
            ((dropped, reason),) = peer.dropped
            promise = peer.beat.keepalive.promise
            assert dropped - died <= promise.interval_s + promise.grace_s
            assert reason.startswith("no answer to 2 pings")
        assert not any(peer.dropped for peer in peers[10:])
        assert len(wheel) == 10
        wheel.close()

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_no_live_peer_is_dropped_however_the_loop_stalls(seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        wheel = Wheel()
        peers = [Peer(wheel, chance.uniform(0, 9), far=chance.random() < 0.5) for _ in range(50)]
        until = virtual().time() + HOUR_S
        while virtual().time() < until:
            await asyncio.sleep(chance.uniform(0, 10))
            virtual().now += chance.choice([chance.uniform(0, 5), chance.uniform(0, 5), 60, 600])
        assert not any(peer.dropped for peer in peers)
        wheel.close()

    run(main())


def test_pongs_that_lie_unread_count() -> None:
    async def main() -> None:
        wheel = Wheel()
        peer = Peer(wheel)
        peer.behind = True
        await asyncio.sleep(HOUR_S)
        assert not peer.dropped
        gone = Peer(wheel)
        gone.alive = False
        await asyncio.sleep(HOUR_S)
        assert gone.dropped
        wheel.close()

    run(main())


def test_the_loops_own_stall_is_measured_while_something_is_waited_for_and_only_then() -> None:
    async def main() -> None:
        wheel = Wheel()
        peer = Peer(wheel)
        peer.alive = False
        virtual().now += 5
        assert wheel.stall(virtual().time()) == 0
        while not peer.pinged_at:
            await asyncio.sleep(0.5)
        ticks = wheel.wakeups
        await asyncio.sleep(1)
        assert 1 / BEAT_S - 1 <= wheel.wakeups - ticks <= 1 / BEAT_S + 1
        virtual().now += 5
        assert 5 - BEAT_S <= wheel.stall(virtual().time()) <= 5
        await asyncio.sleep(0)
        virtual().now += 2
        await asyncio.sleep(1)
        assert 7 - 2 * BEAT_S <= wheel.stall(virtual().time()) <= 7
        peer.beat.heard()
        virtual().now += 5
        assert wheel.stall(virtual().time()) <= 7
        wheel.close()

    run(main())


def test_another_pace_is_told_to_those_who_asked_when_it_is_much_different() -> None:
    async def main() -> None:
        pace = Pace()
        wheel = Wheel(pace=lambda: pace, chance=lambda: 0.5)
        near, far = Peer(wheel), Peer(wheel, far=True)
        told: list[Peer] = []
        for peer in (near, far):
            assert peer.beat.announce()["state"] == "nominal"
            peer.beat.changed = partial(told.append, peer)
        assert near.beat.announce() == {"intervalMs": 45000, "graceMs": 27500, "state": "nominal"}
        assert far.beat.announce()["intervalMs"] == 25000
        await asyncio.sleep(100)
        assert not told
        pace = Pace(4, "hot")
        await asyncio.sleep(100)
        assert told == [near]  # the other one's path bears no more
        assert near.beat.announce() == {"intervalMs": 180_000, "graceMs": 41_000, "state": "hot"}
        before = len(near.pinged_at)
        await asyncio.sleep(HOUR_S)
        assert HOUR_S / 180 / 1.2 <= len(near.pinged_at) - before <= HOUR_S / 180 / 0.7
        assert told == [near]
        near.round_trip_s = 9.0
        near.beat.wish(100)
        near.beat.announce()
        await asyncio.sleep(150)  # one ping and its answer
        assert told == [near, near]  # as slow an answer is waited for longer
        wheel.close()

    run(main())


def test_a_flood_of_pings_is_refused() -> None:
    async def main() -> None:
        wheel = Wheel()
        beat = Peer(wheel).beat
        assert all(beat.pinged() for _ in range(DEFAULT.peer_pings))
        assert not beat.pinged()
        wheel.close()

    run(main())


def test_a_peer_that_leaves_while_it_is_judged_is_not_dropped() -> None:
    async def main() -> None:
        wheel = Wheel()
        peer = Peer(wheel)
        peer.alive = False

        async def leave() -> None:
            peer.beat.close()

        peer.drain = leave  # type: ignore[method-assign]
        await asyncio.sleep(HOUR_S)
        assert not peer.dropped
        assert len(wheel) == 0

    loop = VirtualLoop()
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        loop.run_until_complete(asyncio.wait_for(main(), None))
        loop.run_until_complete(loop.create_future())
    loop.close()


class Day:
    """Peers that stay, and peers that come, talk, and leave or die, while the device's state is another one each hour."""

    PACES = (Pace(1), Pace(2, "warm"), Pace(8, "critical"))

    def __init__(self) -> None:
        self.wheel = Wheel(pace=lambda: self.PACES[int(virtual().time() / HOUR_S) % 3])
        self.staying = [Peer(self.wheel, 0.05) for _ in range(10)]
        self.chance = random.Random(7)
        self._visits: set[asyncio.Task[None]] = set()
        self.dead = 0

    async def hour(self) -> None:
        """A visitor each minute; one minute in ten the loop stands."""
        for _ in range(60):
            self._visits.add(asyncio.create_task(self._visit()))
            await asyncio.sleep(60 + self.chance.random())
            if self.chance.random() < 0.1:
                virtual().now += 5
            for done in [task for task in self._visits if task.done()]:
                self._visits.remove(done)
                done.result()

    async def end(self) -> None:
        await asyncio.gather(*self._visits)
        assert len(self.wheel) == len(self.staying)
        self.wheel.close()

    async def _visit(self) -> None:
        chance = self.chance
        peer = Peer(self.wheel, chance.uniform(0, 2), far=chance.random() < 0.3)
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(chance.expovariate(1 / 60))
            chance.choice([peer.beat.heard, peer.beat.sent])()
        if chance.random() < 0.3:
            await self._die(peer)
        assert bool(peer.dropped) is not peer.alive
        peer.beat.close()

    async def _die(self, peer: Peer) -> None:
        peer.alive = False
        died, bound = virtual().time(), 0.0
        while not peer.dropped:
            promise = peer.beat.keepalive.promise
            bound = max(bound, 2 * promise.interval_s + promise.grace_s + 20)  # it may have been sent to; stalls
            await asyncio.sleep(1)
        assert virtual().time() - died <= bound
        self.dead += 1


def test_a_day_without_drift_and_without_a_leak() -> None:
    async def main() -> None:
        day = Day()
        for _ in range(3):
            await day.hour()
        for peer in day.staying:
            peer.pinged_at.clear()
        tracemalloc.start()
        sizes = []
        for _ in range(21):
            await day.hour()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        for peer in day.staying:
            gaps = [later - earlier for earlier, later in pairwise(peer.pinged_at)]
            assert min(gaps) >= 45 * 0.7
            assert 240 * 0.7 <= max(gaps) <= 240 * 1.1 + 7
        assert not any(peer.dropped for peer in day.staying)
        assert day.dead > 200
        await day.end()
        kept = 40 * sum(len(peer.pinged_at) for peer in day.staying)  # by this test
        assert sizes[-1] - sizes[0] <= kept + 50_000

    run(main())
