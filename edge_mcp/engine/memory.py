"""What processes, the device and its control group say of memory, in units of 2^20 bytes."""

from pathlib import Path

PROC = Path("/proc")


def process_mb(pid: int | str = "self", proc: Path = PROC) -> float:
    """What a process adds to the use of memory: its proportional set size, or where the kernel does not tell that its resident
    set size. 0 for a process that has ended."""
    kb = _field(proc / str(pid) / "smaps_rollup", "Pss:")
    if kb is None:
        kb = _field(proc / str(pid) / "status", "VmRSS:")
    return (kb or 0) / 1024


def _field(file: Path, name: str) -> int | None:
    """The number after `name` in a file of lines."""
    try:
        lines = file.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), None)
