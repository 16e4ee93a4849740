"""Parsers of what Linux and a Raspberry Pi's firmware say of the device's load. Pure: text in, values out.

Each raises ValueError for text that is not of its format. Formats: proc(5); Documentation/accounting/psi.rst, cgroup-v2.rst,
sysfs-class-thermal and sysfs-class-power of the Linux kernel; the firmware's `get_throttled`.
"""

from dataclasses import dataclass

UNDER_VOLTAGE, FREQUENCY_CAPPED, THROTTLED, SOFT_LIMIT = range(4)
"""Bits of `get_throttled`; 16 bits further up they say that it happened since the device was booted."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Since boot, of all processors together, in clock ticks; `idle` includes waiting for disks."""

    total: int
    idle: int

    def busy_since(self, earlier: "CpuTimes") -> float | None:
        """The share of the time since `earlier` in which processors worked, 0 to 1; None when no time has passed."""
        total = self.total - earlier.total
        return None if total <= 0 else min(1.0, max(0.0, 1 - (self.idle - earlier.idle) / total))


def cpu_times(text: str) -> CpuTimes:
    """`/proc/stat`: its first line. Time of guests is part of `user` already."""
    name, *fields = text.split("\n", 1)[0].split()
    if name != "cpu" or len(fields) < 4:
        raise ValueError("not a /proc/stat")
    ticks = [int(field) for field in fields[:8]]
    return CpuTimes(sum(ticks), sum(ticks[3:5]))


@dataclass(frozen=True, slots=True)
class Memory:
    """In units of 2^20 bytes: what this device or its control group has, and what can be had of that without swapping."""

    total_mb: float
    available_mb: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """The share of the last 10 and 60 seconds in which some task, and in which every task, had to wait; 0 to 100."""

    some_10s: float
    some_60s: float
    full_10s: float = 0.0


def pressure(text: str) -> Pressure:
    """A file of `/proc/pressure`. Kernels before 5.13 have no line `full` for the processor."""
    lines = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        lines[kind] = {name: float(value) for name, _, value in (pair.partition("=") for pair in pairs) if name != "total"}
    try:
        some = lines["some"]
        return Pressure(some["avg10"], some["avg60"], lines.get("full", {}).get("avg10", 0.0))
    except KeyError as error:
        raise ValueError(f"no {error} in pressure") from error


def celsius(text: str) -> float:
    """`temp` of a thermal zone, in thousandths of a degree. A sensor that answers nonsense is an error."""
    degrees = int(text) / 1000
    if not -40 <= degrees <= 150:
        raise ValueError(f"{degrees:g} °C is no temperature of a device that answers")
    return degrees


@dataclass(frozen=True, slots=True)
class Throttling:
    """What the firmware of a Raspberry Pi does now, and what it has done since boot."""

    now: frozenset[int]
    since_boot: frozenset[int]


def throttling(text: str) -> Throttling:
    """`get_throttled` of the firmware: hexadecimal, with `0x` or without, or as `vcgencmd` prints it."""
    bits = int(text.strip().removeprefix("throttled="), 16)
    known = range(4)
    return Throttling(
        frozenset(bit for bit in known if bits >> bit & 1), frozenset(bit for bit in known if bits >> (bit + 16) & 1)
    )


def frequency_ratio(current: str, largest: str) -> float:
    """`scaling_cur_freq` by `cpuinfo_max_freq`, both in kHz: 0 to 1."""
    top = int(largest)
    if top <= 0:
        raise ValueError(f"a processor of {top} kHz")
    return min(1.0, int(current) / top)


@dataclass(frozen=True, slots=True)
class Power:
    """Whether the device runs on a battery, and how full it is in per cent (None: it does not say)."""

    on_battery: bool
    percent: int | None = None


def power(supplies: list[dict[str, str]]) -> Power | None:
    """The files of each folder in `/sys/class/power_supply`, by name; None without a battery.

    A battery that discharges while a mains supply is online only bridges a peak.
    """
    batteries = [supply for supply in supplies if supply.get("type") == "Battery" and supply.get("scope") != "Device"]
    if not batteries:
        return None
    mains = any(supply.get("online") not in (None, "0") for supply in supplies if supply.get("type") != "Battery")
    discharging = any(supply.get("status") == "Discharging" for supply in batteries)
    levels = [int(supply["capacity"]) for supply in batteries if supply.get("capacity", "").isdigit()]
    return Power(discharging and not mains, min(levels) if levels else None)


def written_bytes(text: str) -> int:
    """`/proc/self/io`: what this process caused to be written to disks."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    raise ValueError("no write_bytes in io")


def sectors_written(text: str) -> int:
    """`stat` of a block device: bytes written since boot (its sectors are of 512 bytes)."""
    fields = text.split()
    if len(fields) < 7:
        raise ValueError("not a block device's stat")
    return int(fields[6]) * 512
