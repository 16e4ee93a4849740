"""What processes, the device and its control group say of memory, in units of 2^20 bytes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
_MB = 1024 * 1024
_KEPT_MB = 2


def keep_freed() -> None:
    """From now on the allocator keeps some megabytes that were freed. As it starts it gives a tensor's buffers back after each
    call, and the kernel clears and maps every page of them anew for the next: 30 times what copying it costs.

    glibc keeps twice as much as the largest block that was ever mapped and freed (mallopt(3), M_MMAP_THRESHOLD), so one is;
    it is never written to, and takes no memory. Other allocators are not changed by it.
    """
    bytes(_KEPT_MB * _MB)


def process_mb(pid: int | str = "self", proc: Path = PROC) -> float:
    """What a process adds to the use of memory: its proportional set size, or where the kernel does not tell that its resident
    set size. 0 for a process that has ended."""
    values = fields(proc / str(pid) / "smaps_rollup") or fields(proc / str(pid) / "status")
    return values.get("Pss", values.get("VmRSS", 0)) / 1024


def anonymous_and_mapped_mb(proc: Path = PROC) -> tuple[float, float]:
    """Of this process: what it allocated itself, and what it mapped of files."""
    values = fields(proc / "self" / "smaps_rollup")
    if "Pss_Anon" in values:
        return values["Pss_Anon"] / 1024, values.get("Pss_File", 0) / 1024
    values = fields(proc / "self" / "status")
    return values.get("RssAnon", 0) / 1024, values.get("RssFile", 0) / 1024


class DeviceMemory:
    """The memory of this device, or of the control groups (version 2, or 1) that this process is in where they allow less.

    Raspberry Pi OS starts without the control group of memory: then what the device has counts alone.
    """

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._proc = proc
        self._cgroups = cgroups

    def total_mb(self) -> float:
        """All there is; infinite where nothing says so."""
        own = fields(self._proc / "meminfo").get("MemTotal")
        return min([own / 1024 if own else float("inf"), *(limit for limit, _ in self._limits())])

    def available_mb(self) -> float:
        """What can be had without swapping; infinite where nothing says so."""
        own = fields(self._proc / "meminfo").get("MemAvailable")
        left = (max(0.0, limit - used) for limit, used in self._limits())
        return min([float("inf") if own is None else own / 1024, *left])

    def process_mb(self, pid: int) -> float:
        """See the function of this name."""
        return process_mb(pid, self._proc)

    def _limits(self) -> Iterator[tuple[float, float]]:
        """(allowed, used) of each control group above this process that has a limit; cached files are not used memory."""
        for top, group, names in self._groups():
            while group.is_relative_to(top):
                bounds = [bound for name in names.limits if (bound := _bytes(group / name)) is not None]
                used = _bytes(group / names.used)
                if bounds and used is not None:
                    cached = fields(group / "memory.stat").get(names.cached, 0)
                    yield min(bounds) / _MB, max(0, used - cached) / _MB
                group = group.parent

    def _groups(self) -> Iterator[tuple[Path, Path, "_Names"]]:
        """Where control groups are, and the one that this process is in; version 1 has one for memory, where that is used."""
        try:
            lines = (self._proc / "self" / "cgroup").read_text("utf-8", "surrogateescape").splitlines()
        except OSError:
            return
        for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
            names = _V2 if not controllers else _V1 if "memory" in controllers.split(",") else None
            if names is not None and path.startswith("/") and ".." not in path:
                top = self._cgroups / names.folder
                yield top, Path(os.path.normpath(f"{top}/{path}")), names


@dataclass(frozen=True, slots=True)
class _Names:
    """What the files of a version of control groups are called."""

    folder: str
    limits: tuple[str, ...]
    used: str
    cached: str


_V2 = _Names("", ("memory.max", "memory.high"), "memory.current", "inactive_file")
_V1 = _Names("memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def fields(file: Path) -> dict[str, int]:
    """The lines `NAME: NUMBER …` or `NAME NUMBER` of a file of the kernel's; none where it cannot be read."""
    try:
        lines = file.read_text("ascii", "replace").splitlines()
    except OSError:
        return {}
    words = (line.replace(":", " ", 1).split() for line in lines)
    return {name: int(value) for name, value, *_ in (word for word in words if len(word) > 1) if value.isdigit()}


def _bytes(file: Path) -> int | None:
    """The number in a file; None for `max`, and for a file that is not there."""
    try:
        text = file.read_text("ascii", "replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
