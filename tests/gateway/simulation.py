"""The real router on devices that are simulated, in a loop whose time passes at once: the same run every time.

python -m tests.gateway.simulation prints what becomes of calls beside clients that go round-robin, or anywhere.
"""

import asyncio
import heapq
import random
import selectors
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from edge_mcp.client.client import Client, NotSent
from edge_mcp.errors import ConnectionClosed, EdgeError
from edge_mcp.gateway.choice import LOADS
from edge_mcp.gateway.circuit import Circuits
from edge_mcp.gateway.passing import Passing, Progress
from edge_mcp.gateway.routing import Router
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.protocol.codec import JSON, Arguments
from edge_mcp.protocol.messages import ToolResult
from edge_mcp.protocol.versions import MODERN
from tests.gateway.devices import Host, Place

T = TypeVar("T")
TOOL = "work"
NEEDS_S = 0.01
RTT_S = 0.001


class _NoWait(selectors.SelectSelector):
    """Waits for nothing: the loop's time passes instead."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        super().__init__()
        self._passed = passed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits for ever")
        self._passed(max(0.0, timeout))
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_NoWait(self._pass))

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now


def simulated(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class Simulated(Upstream):
    """A device with one lane and a queue. `slower` than others by a factor; `straggles` is the share of its calls that take
    ten times as long; more than `room` calls at once are refused."""

    def __init__(self, name: str, clock: Callable[[], float], chance: random.Random, room: int = 64) -> None:
        super().__init__(Place(name, name, "ws://nowhere"), 0, clock=clock)
        self.circuits = Circuits(chance.random)
        self.state, self.names, self.rtt_s = "up", frozenset({TOOL}), RTT_S
        self.slower = 1.0
        self.straggles = 0.0
        self.frozen: asyncio.Event | None = None
        self.begun = 0
        self.done = 0
        self.cancelled = 0
        self._room = room
        self._chance = chance
        self._lane = asyncio.Lock()
        self._here: set[asyncio.Future[None]] = set()
        self.version = MODERN[-1]
        self.codec = JSON

    async def once(self, request: Callable[[Client], Awaitable[T]], encoding: str = "json") -> T:
        if self.state != "up":
            raise NotSent("it is away")
        return await request(self)  # type: ignore[arg-type]  # all that a call uses of a client

    async def request(self, _m: str, _p: object, kind: type[T], _n: object, meta: Callable[[], dict[str, float]]) -> T:
        self.begun += 1
        needs_s = NEEDS_S * self.slower
        wait_s = needs_s * (len(self._here) + 1)
        late = wait_s > 0.92 * meta().get("io.edge-mcp/deadlineMs", 1e9) / 1000  # as a real device refuses at once
        if late or len(self._here) >= self._room:
            await asyncio.sleep(RTT_S)
            retry = {"retryAfterMs": round(wait_s * 500) + 1, "reason": "deadline" if late else "queue"}
            content = [{"type": "text", "text": "busy"}]
            return JSON.decode(JSON.encode({"content": content, "isError": True, "_meta": {"io.edge-mcp/retry": retry}}), kind)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._here.add(lost)
        working = asyncio.create_task(self._work())
        try:
            await asyncio.wait([lost, working], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                raise ConnectionClosed("it was killed")
            self.done += 1
            return JSON.decode(b'{"content":[]}', kind)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._here.discard(lost)
            working.cancel()

    async def _work(self) -> None:
        await asyncio.sleep(RTT_S)
        async with self._lane:
            if self.frozen is not None:
                await self.frozen.wait()
            times = 10.0 if self._chance.random() < self.straggles else self._chance.uniform(0.8, 1.2)
            await asyncio.sleep(NEEDS_S * self.slower * times)

    def kill(self) -> None:
        self._is("away", "it was killed")
        for lost in list(self._here):
            lost.set_result(None)

    def back(self) -> None:
        self._is("up", "")


@dataclass
class Outcome:
    """What became of calls: how long each took that was answered, by which device, and how many were not."""

    took: list[float] = field(default_factory=list)
    lost: int = 0
    late: int = 0
    by: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    hedged: int = 0

    def quantile_ms(self, share: float) -> float:
        return heapq.nsmallest(max(1, int(len(self.took) * share)), self.took)[-1] * 1000 if self.took else float("nan")

    @property
    def goodput(self) -> float:
        """Calls answered within their deadline, a second."""
        return (len(self.took) - self.late) / self.seconds


Way = Callable[["Fleet", float], Awaitable[None]]


class Fleet:
    """Some devices, and who calls them."""

    def __init__(self, seed: int = 1, size: int = 5, room: int = 64) -> None:
        self.chance = random.Random(seed)
        self.clock = asyncio.get_running_loop().time
        self.devices = [Simulated(name, self.clock, self.chance, room) for name in "abcdefgh"[:size]]
        self.router = Router(self.clock, self.chance.random)
        self.turns = count()

    async def routed(self, deadline_s: float) -> None:
        context = Host().context(deadline_s * 1000)
        result = await self.router.call(self.devices, TOOL, Arguments(b"{}"), context, repeatable=True)
        if result.isError:
            raise EdgeError(str(result.content))

    async def round_robin(self, deadline_s: float) -> None:
        await self._plain(deadline_s, lambda: self.devices[next(self.turns) % len(self.devices)])

    async def anywhere(self, deadline_s: float) -> None:
        await self._plain(deadline_s, lambda: self.chance.choice(self.devices))

    async def _plain(self, deadline_s: float, pick: Callable[[], Simulated]) -> None:
        """A client that goes to the next one where one fails or refuses, as long as there is time."""
        until = self.clock() + deadline_s
        context = Host().context()
        while self.clock() < until:
            device = pick()
            if device.state != "up":
                await asyncio.sleep(RTT_S)  # the attempt
                continue
            passing = Passing(TOOL, Arguments(b"{}"), context, lambda: until - self.clock())
            try:
                async with Progress(context) as progress:
                    result: ToolResult = await passing.to(device, progress, False, lambda: None)
            except ConnectionClosed:
                continue
            if not result.isError:
                return
            await asyncio.sleep(0.01)
        raise EdgeError("no time left")

    async def run(self, way: Way, calls: int, callers: int = 0, per_second: float = 0.0, deadline_s: float = 2.0) -> Outcome:
        """So many calls: of `callers` who call again when they were answered, or `per_second` by chance."""
        outcome = Outcome()
        begun = self.clock()

        async def one() -> None:
            start = self.clock()
            try:
                await way(self, deadline_s)
            except EdgeError:
                outcome.lost += 1
                return
            outcome.took.append(self.clock() - start)
            outcome.late += outcome.took[-1] > deadline_s

        if callers:
            left = iter(range(calls))

            async def caller() -> None:
                for _ in left:
                    await one()

            await asyncio.gather(*(caller() for _ in range(callers)))
        else:
            tasks = []
            for _ in range(calls):
                await asyncio.sleep(self.chance.expovariate(per_second))
                tasks.append(asyncio.create_task(one()))
            await asyncio.gather(*tasks)
        outcome.seconds = self.clock() - begun
        outcome.by = Counter({device.name: device.done for device in self.devices})
        outcome.hedged = sum(device.cancelled for device in self.devices)
        return outcome


WAYS: dict[str, Way] = {"gateway": Fleet.routed, "round robin": Fleet.round_robin, "anywhere": Fleet.anywhere}


async def slowed(way: Way, callers: int = 32, per_second: float = 0.0, calls: int = 4000, told: bool = False) -> Outcome:
    """Five devices, one of which is four times slower."""
    fleet = Fleet()
    fleet.devices[0].slower = 4.0
    if told:
        fleet.devices[0].load = len(LOADS) - 1
    return await fleet.run(way, calls, callers, per_second)


async def killed(way: Way) -> Outcome:
    """One is slower, and the others are killed and come back, one after the other."""
    fleet = Fleet()
    fleet.devices[0].slower = 4.0

    async def trouble() -> None:
        for device in [*fleet.devices[1:], *fleet.devices[1:]]:
            await asyncio.sleep(0.5)
            device.kill()
            await asyncio.sleep(0.3)
            device.back()

    troubling = asyncio.create_task(trouble())
    outcome = await fleet.run(way, 4000, 32)
    troubling.cancel()
    return outcome


async def crowded(way: Way) -> Outcome:
    """Short queues, and twice the work that there is time for, wanted within a quarter of a second."""
    fleet = Fleet(room=8)
    fleet.devices[0].slower = 4.0
    return await fleet.run(way, 6000, 0, 850.0, 0.25)


async def straggling(way: Way) -> Outcome:
    """Of each device's calls a few take ten times as long; half of what there is time for is wanted."""
    fleet = Fleet()
    for device in fleet.devices:
        device.straggles = 0.02
    return await fleet.run(way, 4000, 0, 150.0)


async def stopped(way: Way) -> Outcome:
    """One says nothing any more for a second and keeps its connection."""
    fleet = Fleet()

    async def trouble() -> None:
        await asyncio.sleep(3)
        fleet.devices[0].frozen = frozen = asyncio.Event()
        await asyncio.sleep(1)
        fleet.devices[0].frozen = None
        frozen.set()

    troubling = asyncio.create_task(trouble())
    outcome = await fleet.run(way, 3000, 0, 250.0)
    await troubling
    return outcome


SCENES: dict[str, Callable[[Way], Coroutine[Any, Any, Outcome]]] = {
    "one slowed 4x, 32 callers": slowed,
    "one slowed 4x, 300 calls/s": lambda way: slowed(way, 0, 300.0),
    "killed in turn, 32 callers": killed,
    "twice the capacity, deadline 250 ms": crowded,
    "2 % stragglers": straggling,
    "one stopped for 1 s": stopped,
}


def main() -> None:
    for scene, play in SCENES.items():
        sys.stdout.write(f"{scene}\n")
        for name, way in WAYS.items():
            outcome = simulated(play(way))
            answered = len(outcome.took)
            spread = " ".join(f"{share / max(1, sum(outcome.by.values())):.0%}" for share in outcome.by.values())
            sys.stdout.write(
                f"  {name:12} in time {outcome.goodput:4.0f}/s  p50 {outcome.quantile_ms(0.5):4.0f} p99"
                f" {outcome.quantile_ms(0.99):5.0f} ms  not answered {outcome.lost:4}  late {outcome.late:4} of {answered}"
                f"  cancelled {outcome.hedged:3}  spread {spread}\n"
            )


if __name__ == "__main__":
    main()
