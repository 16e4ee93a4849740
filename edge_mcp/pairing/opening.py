"""How the owner opens a device for pairing: `edge-mcp pair` leaves six digits where only the service finds them.

The service takes them away when the first host asks: they are in one place at a time, and gone when it starts again.
"""

import os
import secrets
import time
from pathlib import Path

import msgspec

from edge_mcp import private_files
from edge_mcp.config import data_folder
from edge_mcp.pairing.exchange import PIN_DIGITS

OPEN_S = 120
_MAX_FILE = 1024


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The digits, and until when they count: seconds since the device was started, which no clock that is set moves."""

    pin: str
    until_s: float


def own_file() -> Path:
    """Where the digits wait."""
    return data_folder() / "pairing"


def now_s() -> float:
    """Seconds since the device was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def open_pairing(file: Path, now: float) -> Opening:
    """Make new digits, in place of any others. Raises: ConfigError."""
    opening = Opening(f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}", now + OPEN_S)
    private_files.write(file, msgspec.json.encode(opening))
    return opening


def take(file: Path, now: float) -> Opening | None:
    """The digits that wait, which are nobody else's from now on. Raises: OSError when they cannot be taken away."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                return None
            content = stream.read(_MAX_FILE)
    except FileNotFoundError:
        return None
    file.unlink()
    try:
        opening = msgspec.json.decode(content, type=Opening)
    except msgspec.DecodeError:
        return None
    return opening if now < opening.until_s <= now + OPEN_S else None
