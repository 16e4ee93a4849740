"""A device in discrete events: calls come at random, a policy decides, runs take what the recorded curves say."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_mcp.scheduling.knee import HOP_S, Curve, Service
from edge_mcp.scheduling.policy import Allowed, Call, Scheduler
from tests.scheduling.peers import Fifo

# Seconds of a run on one thread, int8, by batch size: measured on a 2-core x86 machine.
CURVES = {
    "mlp": {1: 8.9e-6, 2: 9.1e-6, 4: 9.8e-6, 8: 11.1e-6, 16: 13.8e-6, 32: 19e-6},
    "silero": {1: 77e-6, 2: 113e-6, 4: 177e-6, 8: 312e-6, 16: 606e-6, 32: 1189e-6},
    "dscnn": {1: 38e-6, 2: 62e-6, 4: 110e-6, 8: 208e-6, 16: 400e-6, 32: 800e-6},
    "mobilenet-small": {1: 262e-6, 2: 431e-6, 4: 787e-6, 8: 1597e-6, 16: 3295e-6, 32: 7097e-6},
    "mobilenet": {1: 2146e-6, 2: 4270e-6, 4: 10e-3},
}
THROTTLED = 1.8


@dataclass
class Told:
    """Shares: of all calls in time, late, refused and possible; of the work what was wasted; of the time a deadline."""

    in_time: float
    late: float
    refused: float
    possible: float
    wasted: float
    deadlines: float


Make = Callable[[Allowed, Callable[[str], Service], Callable[[], float]], Scheduler]


def ours(allowed: Allowed, services: Callable[[str], Service], clock: Callable[[], float]) -> Scheduler:
    return Scheduler(allowed, services)


def simulate(
    model: str,
    load: float,
    calls: int,
    policy: Make = ours,
    seed: int = 1,
    owners: Sequence[tuple[str, float]] = (("", 1.0),),
) -> tuple[Told, dict[str, list[bool]]]:
    """`load` is in what the device could do without batches; in the middle third of the time it is throttled.

    Also told: for each owner (name, share of the load), whether each of its calls was answered in time.
    """
    rng = random.Random(seed)
    curve = Curve(CURVES[model])
    service = Service(curve, most=32)
    now = 0.0
    decide = policy(Allowed(1), lambda _: service, lambda: now)
    alone = CURVES[model][1] + HOP_S
    deadline = max(0.02, 12 * alone)
    arrivals: list[float] = []
    at = 0.0
    for _ in range(calls):
        at += rng.expovariate(load / alone)
        arrivals.append(at)
    names, weights = zip(*owners, strict=True)
    events: list[tuple[float, int, int, tuple[int, list[Call], float] | None]] = [
        (at, 0, n, None) for n, at in enumerate(arrivals)
    ]
    answered: dict[str, list[bool]] = {name: [] for name in names}
    late = refused = 0
    busy = wasted = 0.0
    number = calls
    while events:
        now, kind, _, batch = heapq.heappop(events)
        if kind == 0:
            call = Call(model, now + deadline, rng.choices(names, weights)[0])
            if decide.admit(now, call):
                refused += 1
                answered[call.owner].append(False)
        elif batch is not None:
            ticket, done, seconds = batch
            decide.finished(ticket)
            for call in decide.expire(now):
                refused += 1
                answered[call.owner].append(False)
            decide.told(now - min(call.deadline for call in done))
            service.observe(len(done), seconds - HOP_S)
            slow = sum(now > call.deadline for call in done)
            late += slow
            wasted += seconds * slow / len(done)
            for call in done:
                answered[call.owner].append(now <= call.deadline)
        while ready := decide.release(now):
            throttled = arrivals[-1] / 3 < now < arrivals[-1] * 2 / 3
            seconds = (curve.seconds(len(ready)) + HOP_S) * (THROTTLED if throttled else 1)
            busy += seconds
            number += 1
            heapq.heappush(events, (now + seconds, 1, number, (decide.started(now, model, len(ready)), ready, seconds)))
        if isinstance(decide, Fifo) and (due := decide.due()) is not None and due > now:
            number += 1
            heapq.heappush(events, (due, 2, number, None))
    best = alone * max(size / (HOP_S + seconds) for size, seconds in CURVES[model].items())
    possible = (2 * min(1.0, best / load) + min(1.0, best / THROTTLED / load)) / 3
    told = Told(
        (calls - late - refused) / calls, late / calls, refused / calls, possible, wasted / busy, deadline / arrivals[-1]
    )
    return told, answered
