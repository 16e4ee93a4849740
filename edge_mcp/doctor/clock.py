"""Whether the device knows what time it is. Nothing that edge-mcp does hangs on it, but certificates and logs do."""

import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass

from edge_mcp.load.doctor import Device, Finding

OLDEST = 1_760_000_000
"""October 2025: a clock before that has not been set since the device was switched on."""
_INSTALLED = "opt/edge-mcp/current/complete"
_TIME_ERROR = 5  # adjtimex(2): no time server has set it
_TIMEVAL = 128  # bytes: more than struct ntptimeval has anywhere


@dataclass(frozen=True, slots=True)
class Time:
    """The clock, in seconds since 1970; whether the kernel says that a time server set it (None: it does not say)."""

    now: float
    synchronized: bool | None = None

    @classmethod
    def here(cls) -> "Time":
        """Of this machine: ntp_gettime(3), which needs no right and knows of any time server's client."""
        try:
            said = ctypes.CDLL(None).ntp_gettime(ctypes.create_string_buffer(_TIMEVAL))
        except (AttributeError, OSError):
            said = -1
        return cls(time.time(), None if said < 0 else said != _TIME_ERROR)


def clock(device: Device, told: Time) -> Iterator[Finding]:
    """Before this version was made, or was installed; or set by nobody."""
    shown = time.strftime("%Y-%m-%d", time.gmtime(told.now))
    try:
        installed = (device.root / _INSTALLED).stat().st_mtime
    except OSError:
        installed = 0.0
    synchronized = told.synchronized
    if synchronized is None and (device.root / "run/systemd").exists():
        synchronized = (device.root / "run/systemd/timesync/synchronized").exists()
    if told.now < max(OLDEST, installed):
        cost = "certificates and logs have wrong times; edge-mcp itself serves all the same"
        yield Finding("clock", "problem", shown, cost, "connect it to a time server once (see: timedatectl)")
    elif synchronized is False:
        found, cost = "set, but by no time server since boot", "it drifts by seconds a day"
        yield Finding("clock", "note", found, cost, "timedatectl set-ntp true, where there is a time server")
    else:
        yield Finding("clock", "ok", shown)
