"""From the device's load to one of four states, and from the state to what may be used. A pure state machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from math import ceil

from edge_mcp.load.signals import FREQUENCY_CAPPED, SOFT_LIMIT, THROTTLED, UNDER_VOLTAGE, Memory, Power, Pressure, Throttling

BETTER_AFTER_S = 30.0
"""It takes this long without reason for a worse state until a better one counts."""
LASTS_S = 120.0
"""A better state that ends before this came too soon: the next one takes twice as long, up to `LONGEST_S`."""
LONGEST_S = 240.0


class State(IntEnum):
    """How much the device has left; a higher one is worse."""

    NOMINAL = 0
    WARM = 1
    HOT = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured of the device at one moment; None: this device does not tell.

    `cpu` is the share of the processors' time that was used, `lag_s` how late the event loop's last timer came,
    `frequency` the processor's frequency by its largest, `temperature_slope` in °C a second.
    """

    cpu: float | None = None
    lag_s: float | None = None
    memory: Memory | None = None
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None
    temperature_c: float | None = None
    temperature_slope: float = 0.0
    throttling: Throttling | None = None
    frequency: float | None = None
    power: Power | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What a state allows: a row of the table in DESIGN, section 7.

    `lanes` runs at once of `of` lanes; `slack` of a deadline may be planned; keep-alive intervals are `keepalive` times as
    long; `kept` is the share of their time for which idle models stay loaded; `background`: work that can wait is done.
    """

    lanes: int
    slack: float
    keepalive: int
    deflate: str
    kept: float
    background: bool


def budget(state: State, lanes: int) -> Budget:
    """What `state` allows on a device of `lanes` lanes."""
    match state:
        case State.NOMINAL:
            return Budget(lanes, 0.92, 1, "full", 1.0, True)
        case State.WARM:
            return Budget(lanes, 0.85, 2, "text", 1.0, False)
        case State.HOT:
            return Budget(ceil(lanes / 2), 0.7, 4, "text, no takeover", 0.25, False)
        case State.CRITICAL:
            return Budget(1, 0.5, 8, "off", 0.0, False)


@dataclass(frozen=True, slots=True)
class Limits:
    """From which value on a signal means WARM, HOT and CRITICAL; `margin` further it has to go back until it does not."""

    warm: float
    hot: float
    critical: float
    margin: float
    falling: bool = False
    """Whether small values are the bad ones."""

    def state(self, value: float, now: State) -> State:
        """What `value` means; a state that holds already is kept until the margin is passed."""
        sign = -1 if self.falling else 1
        found = State.NOMINAL
        for state, limit in ((State.WARM, self.warm), (State.HOT, self.hot), (State.CRITICAL, self.critical)):
            edge = sign * limit - (self.margin if now >= state else 0.0)
            if sign * value >= edge:
                found = state
        return found


# The firmware of a Raspberry Pi slows the processor from 80 °C (soft limit) and hard at 85 °C: be earlier than it is.
TEMPERATURE = Limits(70.0, 77.0, 83.0, margin=3.0)
AVAILABLE = Limits(0.15, 0.08, 0.04, margin=0.02, falling=True)
"""Share of the memory that is available."""
MEMORY_PRESSURE = Limits(5.0, 20.0, 40.0, margin=2.0)
"""Per cent of the last 10 s; systemd's default for acting on it is 10 % (200 ms in 2 s)."""
LAG = Limits(0.05, 0.25, 1.0, margin=0.02)
AHEAD_S = 20.0
"""A temperature that rises is judged by what it will be in this time."""
MAX_AHEAD_C = TEMPERATURE.margin / 2
"""Less than it has to go back: else what was foreseen would be over while it is still becoming warmer."""
SLOWED = 0.7
"""A busy processor below this share of its frequency is being slowed."""
BUSY = 0.5
LOW_BATTERY = 20


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a state: the signal's name, and what it says."""

    signal: str
    state: State
    text: str


@dataclass(slots=True)
class Governor:
    """Worse at once, better only after `BETTER_AFTER_S` without reason for worse, and later where that did not last: no
    flapping, although what a better state allows is what heats the device. See `update`."""

    lanes: int
    state: State = State.NOMINAL
    since: float = 0.0
    reasons: tuple[Reason, ...] = ()
    _held: dict[str, State] = field(default_factory=dict)
    _calm_since: float | None = None
    _calm: State = State.NOMINAL
    _wait_s: float = BETTER_AFTER_S
    _bettered: float | None = None

    @property
    def budget(self) -> Budget:
        """What the state allows."""
        return budget(self.state, self.lanes)

    def update(self, load: Load, now: float) -> bool:
        """Take a new measurement at `now` (monotonic seconds); whether the state changed."""
        found = list(self._judged(load))
        # Until the state is a better one, a signal has to stay back by its margin: one low value in noise is no end.
        self._held = {**self._held, **{one.signal: max(one.state, self._held.get(one.signal, one.state)) for one in found}}
        worst = max((reason.state for reason in found), default=State.NOMINAL)
        if worst >= self.state:
            self._calm_since = None
            changed = worst > self.state
            if changed and self._bettered is not None:
                lasted = now - self._bettered >= LASTS_S
                self._wait_s = BETTER_AFTER_S if lasted else min(LONGEST_S, 2 * self._wait_s)
                self._bettered = None
            self.reasons = tuple(reason for reason in found if reason.state == worst and worst > State.NOMINAL)
        else:
            # Better: by as much as it was at worst since it became so.
            self._calm = worst if self._calm_since is None else max(self._calm, worst)
            self._calm_since = now if self._calm_since is None else self._calm_since
            changed = now - self._calm_since >= self._wait_s
            if changed:
                worst, self._calm_since, self._bettered = self._calm, None, now
                self._held = {reason.signal: reason.state for reason in found}
                self.reasons = tuple(reason for reason in found if reason.state == worst and worst > State.NOMINAL)
        if changed:
            self.state, self.since = worst, now
        return changed

    def _judged(self, load: Load) -> Iterator[Reason]:
        """Every signal that is a reason for something worse than NOMINAL."""
        for signal, limits, value, text in _measured(load):
            state = limits.state(value, self._held.get(signal, State.NOMINAL))
            if state > State.NOMINAL:
                yield Reason(signal, state, text)
        yield from _told(load)


def _measured(load: Load) -> Iterator[tuple[str, Limits, float, str]]:
    """Signals with limits: name, limits, value, and the value in words."""
    if load.temperature_c is not None:
        ahead = min(MAX_AHEAD_C, max(0.0, load.temperature_slope) * AHEAD_S)
        rising = f", rising to {load.temperature_c + ahead:.0f}" if ahead >= 1 else ""
        yield "temperature", TEMPERATURE, load.temperature_c + ahead, f"{load.temperature_c:.0f} °C{rising}"
    if load.memory is not None and load.memory.total_mb > 0:
        text = f"{load.memory.available_mb:.0f} of {load.memory.total_mb:.0f} MB available"
        yield "memory", AVAILABLE, load.memory.available_mb / load.memory.total_mb, text
    if load.memory_pressure is not None:
        # All tasks waiting is twice as bad as some.
        value = max(load.memory_pressure.some_10s, 2 * load.memory_pressure.full_10s)
        yield (
            "memory_pressure",
            MEMORY_PRESSURE,
            value,
            f"tasks waited for memory {load.memory_pressure.some_10s:.0f} % of 10 s",
        )
    if load.lag_s is not None:
        yield "lag", LAG, load.lag_s, f"the event loop came {load.lag_s * 1000:.0f} ms late"


def _told(load: Load) -> Iterator[Reason]:
    """What is said outright."""
    if load.throttling is not None:
        now = load.throttling.now
        if THROTTLED in now:
            yield Reason("throttling", State.HOT, "the firmware slows the processor down")
        elif now & {SOFT_LIMIT, FREQUENCY_CAPPED}:
            yield Reason("throttling", State.WARM, "the firmware limits the processor's frequency")
        if UNDER_VOLTAGE in now:
            yield Reason("under_voltage", State.HOT, "the supply voltage is too low")
    if load.frequency is not None and load.frequency < SLOWED and (load.cpu or 0.0) > BUSY:
        yield Reason("frequency", State.WARM, f"the busy processor runs at {load.frequency:.0%} of its frequency")
    if load.power is not None and load.power.on_battery:
        low = load.power.percent is not None and load.power.percent <= LOW_BATTERY
        level = "" if load.power.percent is None else f" at {load.power.percent} %"
        yield Reason("power", State.HOT if low else State.WARM, f"on battery{level}")
