"""What the system says of this device; None for what it does not say."""

import os
from pathlib import Path

PROC = Path("/proc")


def resident_mb(pid: int, proc: Path = PROC) -> float | None:
    """The memory that a process occupies, in units of 2^20 bytes."""
    try:
        lines = (proc / str(pid) / "status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmRSS:")), None)


def load_average() -> tuple[float, float, float] | None:
    """Over 1, 5 and 15 minutes."""
    try:
        one, five, fifteen = os.getloadavg()
    except OSError:
        return None
    return round(one, 2), round(five, 2), round(fifteen, 2)
