"""A Raspberry Pi 4 that reacts: calls heat it, heat and lack of memory slow it, and the governor's budget says how many run.

Deterministic, in steps of a second; what a kernel would say is written as its files, and read by the monitor. The model:

- Temperature goes to 52 °C plus 8 for each busy lane at full frequency (12 more in the sun, 60 to 330 s), a 70th of the way a
  second: four busy lanes in the shade end at 84 °C. Power grows with the frequency to the 1.5 (voltage falls with it).
- The firmware caps the frequency from 80 °C (1.4 of 1.8 GHz), and throttles from 85 °C (1.0 GHz).
- Another program takes memory from 600 to 690 s; idle models hold `IDLE_KB`, of which the budget keeps its share. Below
  `THRASHING` of the memory, runs take four times as long.
- Calls come at random to one model whose run takes 100 ms at full frequency: `rates` a second, `deadline_s` each.
"""

import heapq
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path

from edge_mcp.load.governor import Governor, State
from edge_mcp.load.monitor import Monitor
from edge_mcp.scheduling.knee import Curve, Service
from edge_mcp.scheduling.policy import Allowed, Call, Scheduler

BOARD = Path(__file__).parent / "boards/pi-4"
LANES = 4
SECONDS = 900
TOTAL_KB, IDLE_KB = 1_000_000, 120_000
FULL_KHZ, CAPPED_KHZ, SLOW_KHZ = 1_800_000, 1_400_000, 1_000_000
IDLE_C, LANE_C, SUN_C, TAU_S = 52.0, 8.0, 12.0, 70.0
SOFT_C, HARD_C = 80.0, 85.0
THRASHING, THRASHED = 0.04, 4.0
RUN_S = 0.1
FLAPPING_S = 30.0


@dataclass(frozen=True)
class Moment:
    """One second: what the board said, what the governor made of it, and what became of the calls that came."""

    second: int
    celsius: float
    throttled: int
    khz: int
    available_kb: int
    state: State
    lanes: int
    why: str
    changed: bool
    came: int
    in_time: int


class Calls:
    """Calls at random to one model, before the real scheduler; runs take what the board's speed makes of them."""

    def __init__(self, rng: random.Random, deadline_s: float) -> None:
        self._rng = rng
        self._deadline_s = deadline_s
        self._service = Service(Curve({1: RUN_S}), 1)
        self._scheduler = Scheduler(Allowed(LANES), lambda _: self._service)
        self._events: list[tuple[float, int, tuple[int, Call, float] | None]] = []
        self._number = 0

    def second(self, now: float, rate: float, slower: float, allowed: Allowed) -> tuple[int, int, float]:
        """The second from `now` on: how many calls came, how many were answered in time, how many lanes were busy."""
        self._scheduler.allowed = allowed
        at, came, in_time, busy = now, 0, 0, 0.0
        while rate > 0 and (at := at + self._rng.expovariate(rate)) < now + 1:
            came += 1
            self._push(at, None)
        while self._events and self._events[0][0] < now + 1:
            at, _, done = heapq.heappop(self._events)
            if done is None:
                self._scheduler.admit(at, Call("model", at + self._deadline_s))
            else:
                ticket, call, took = done
                self._scheduler.finished(ticket)
                self._service.observe(1, took)
                self._scheduler.expire(at)
                self._scheduler.told(at - call.deadline)
                in_time += at <= call.deadline
            while ready := self._scheduler.release(at):
                took = RUN_S * slower
                busy += took
                self._push(at + took, (self._scheduler.started(at, "model", 1), ready[0], took))
        return came, in_time, min(busy, LANES)

    def _push(self, at: float, event: tuple[int, Call, float] | None) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, event))


def rates(second: int) -> float:
    """Much to do from 60 to 420 s and from 560 to 760 s, little else."""
    return 32.0 if 60 <= second < 420 else 16.0 if 560 <= second < 760 else 4.0


def replay(folder: Path, seed: int, governed: bool = True, deadline_s: float = 0.5) -> list[Moment]:
    """All of it, on a tree of files below `folder`; not `governed`: whatever the device says, all lanes may run."""
    root = Path(shutil.copytree(BOARD, folder / f"board-{seed}-{governed}-{deadline_s}"))
    (root / "sys/class/hwmon/hwmon1/in0_lcrit_alarm").write_text("0\n")
    rng = random.Random(seed)
    calls = Calls(random.Random(seed + 1000), deadline_s)
    now, celsius, busy, khz, since_boot, freed = 0.0, IDLE_C, 0.0, FULL_KHZ, 0, 0.0
    governor, monitor = Governor(LANES), Monitor(root, lambda: now)
    moments = []
    for second in range(SECONDS):
        now = float(second)
        aim = IDLE_C + (SUN_C if 60 <= second < 330 else 0) + LANE_C * busy * (khz / FULL_KHZ) ** 1.5
        celsius = aim + (celsius - aim) * exp(-1 / TAU_S)
        shown = round(celsius + rng.gauss(0, 0.4), 3)
        throttled = (8 if shown >= SOFT_C else 0) | (6 if shown >= HARD_C else 0)  # soft limit; throttled and capped
        since_boot |= throttled
        khz = SLOW_KHZ if throttled & 4 else CAPPED_KHZ if throttled & 8 else FULL_KHZ
        squeeze = min(1.0, max(0.0, (second - 600) / 40)) if second < 690 else max(0.0, 1 - (second - 690) / 10)
        freed = max(freed, IDLE_KB * (1 - governor.budget.kept)) if governed and squeeze else 0.0
        available = max(5000, round(TOTAL_KB * (0.55 - 0.53 * squeeze) + freed + rng.gauss(0, 4000)))
        thrashing = available < THRASHING * TOTAL_KB
        pressure = max(0.0, 40.0 + rng.gauss(0, 2)) if thrashing else 0.0
        _show(root, second, shown, throttled | since_boot << 16, khz, available, pressure, busy)
        changed = governed and governor.update(monitor.sample().load, now)
        budget = governor.budget
        slower = FULL_KHZ / khz * (THRASHED if thrashing else 1)
        came, in_time, busy = calls.second(now, rates(second), slower, Allowed(budget.lanes, budget.slack))
        why = "; ".join(reason.text for reason in governor.reasons)
        moments.append(
            Moment(second, shown, throttled, khz, available, governor.state, budget.lanes, why, changed, came, in_time)
        )
    return moments


def flaps(moments: Sequence[Moment]) -> int:
    """How often a better state lasted for less than `FLAPPING_S`."""
    changes = [one for one in moments if one.changed]
    states = [State.NOMINAL, *(one.state for one in changes)]
    return sum(
        states[n + 1] < states[n] and states[n + 2] > states[n + 1] and changes[n + 1].second - changes[n].second < FLAPPING_S
        for n in range(len(changes) - 1)
    )


def _show(
    root: Path, second: int, celsius: float, throttled: int, khz: int, available_kb: int, pressure: float, busy: float
) -> None:
    """Write it where a kernel would say it."""
    (root / "sys/class/thermal/thermal_zone0/temp").write_text(f"{celsius * 1000:.0f}\n")
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text(f"{throttled:x}\n")
    (root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").write_text(f"{FULL_KHZ}\n")
    (root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").write_text(f"{khz}\n")
    meminfo = (root / "proc/meminfo").read_text()
    meminfo = re.sub(r"MemTotal: +\d+", f"MemTotal: {TOTAL_KB}", meminfo)
    (root / "proc/meminfo").write_text(re.sub(r"MemAvailable: +\d+", f"MemAvailable: {available_kb}", meminfo))
    lines = (f"{kind} avg10={value:.2f} avg60={value:.2f} avg300=0.00 total=0" for kind, value in _stalls(pressure))
    (root / "proc/pressure/memory").write_text("\n".join(lines) + "\n")
    ticks = second * 400
    idle = round(ticks * (1 - busy / LANES))
    (root / "proc/stat").write_text(f"cpu  {ticks - idle} 0 0 {idle} 0 0 0 0 0 0\n")


def _stalls(pressure: float) -> tuple[tuple[str, float], tuple[str, float]]:
    return ("some", pressure), ("full", pressure / 3)
