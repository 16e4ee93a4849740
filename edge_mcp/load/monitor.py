"""Reads the device's load from /proc and /sys, when somebody needs to know and at most once a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import TypeVar

from edge_mcp.engine.memory import DeviceMemory
from edge_mcp.load import signals
from edge_mcp.load.governor import Load
from edge_mcp.load.signals import CpuTimes, Memory, Power, Pressure

LEAST_S = 1.0
"""A sample younger than this is answered again."""
SLOPE_S = 10.0
"""The slope of the temperature is taken over at least this time."""
_ZONES = ("cpu", "soc", "x86_pkg", "bcm", "k10temp")
_MAX_BYTES = 65536

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read at `at` (monotonic seconds). `absent` are the names of the signals that this device does not give."""

    at: float
    load: Load
    absent: tuple[str, ...]


class Monitor:
    """The signals of one device, below `root`. Files that are missing, unreadable or nonsense are absent signals."""

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        lag: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._root = root
        self._clock = clock
        self._lag = lag
        self._cpu: CpuTimes | None = None
        self._warmth: tuple[float, float] | None = None
        self._slope = 0.0
        self._last: Sample | None = None
        self._zone = next((zone for zone in _processor_zones(root) if self._parsed(zone, signals.celsius) is not None), None)
        self._throttled = next(iter(sorted(root.glob("sys/devices/platform/soc*/soc*firmware/get_throttled"))), None)
        self._device = DeviceMemory(root / "proc", root / "sys/fs/cgroup")

    def sample(self) -> Sample:
        """The load now, or as it was less than `LEAST_S` ago."""
        now = self._clock()
        if self._last is None or now - self._last.at >= LEAST_S:
            load = self._read(now)
            absent = tuple(
                field.name for field in fields(Load) if field.name != "temperature_slope" and getattr(load, field.name) is None
            )
            self._last = Sample(now, load, absent)
        return self._last

    def _read(self, now: float) -> Load:
        temperature = self._parsed(self._zone, signals.celsius)
        return Load(
            cpu=self._busy(),
            lag_s=self._lag(),
            memory=self._memory(),
            cpu_pressure=self._pressure("cpu"),
            memory_pressure=self._pressure("memory"),
            io_pressure=self._pressure("io"),
            temperature_c=temperature,
            temperature_slope=self._sloping(temperature, now),
            throttling=self._parsed(self._throttled, signals.throttling),
            frequency=self._frequency(),
            power=self._power(),
        )

    def _busy(self) -> float | None:
        times, before = self._parsed(self._root / "proc/stat", signals.cpu_times), self._cpu
        self._cpu = times
        return times.busy_since(before) if times and before else None

    def _sloping(self, temperature: float | None, now: float) -> float:
        if temperature is None or self._warmth is None:
            self._warmth = None if temperature is None else (now, temperature)
            return 0.0
        then, warmth = self._warmth
        if now - then >= SLOPE_S:
            self._slope = (temperature - warmth) / (now - then)
            self._warmth = now, temperature
        return self._slope

    def _pressure(self, of: str) -> Pressure | None:
        return self._parsed(self._root / "proc/pressure" / of, signals.pressure)

    def _memory(self) -> Memory | None:
        total, available = self._device.total_mb(), self._device.available_mb()
        return Memory(total, available) if total < inf and available < inf else None

    def _frequency(self) -> float | None:
        folder = self._root / "sys/devices/system/cpu/cpu0/cpufreq"
        current, largest = self._text(folder / "scaling_cur_freq"), self._text(folder / "cpuinfo_max_freq")
        with suppress(ValueError):
            return None if current is None or largest is None else signals.frequency_ratio(current, largest)
        return None

    def _power(self) -> Power | None:
        supplies = []
        for folder in sorted((self._root / "sys/class/power_supply").glob("*")):
            read = ((name, self._text(folder / name)) for name in ("type", "scope", "online", "status", "capacity"))
            supplies.append({name: text.strip() for name, text in read if text is not None})
        return signals.power(supplies)

    def _parsed(self, file: Path | None, parser: Callable[[str], T]) -> T | None:
        text = None if file is None else self._text(file)
        with suppress(ValueError):
            return None if text is None else parser(text)
        return None

    def _text(self, file: Path) -> str | None:
        try:
            with file.open("rb") as opened:
                return opened.read(_MAX_BYTES).decode("ascii", "replace")
        except OSError:
            return None


def _processor_zones(root: Path) -> Iterator[Path]:
    """`temp` of the processor's thermal zones, else of any."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    named = []
    for zone in zones:
        with suppress(OSError):
            named.append((zone, (zone / "type").read_text("ascii", "replace").lower()))
    yield from (zone / "temp" for zone, name in named if any(part in name for part in _ZONES))
    yield from (zone / "temp" for zone in zones)
