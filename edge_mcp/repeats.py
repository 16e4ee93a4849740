"""What the log says again and again: a peer, a disk or a cable that fails for a year must not wear out the card."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

SAME = 3
"""Times that the very same line is said; after that ever more rarely."""
SAME_S, LONGEST_S = 600.0, 86_400.0
"""Until it is said once more: as long as the first, twice as long each time, at most as long as the second."""
BURST = 30
"""Lines of one place in the code, whatever is in them, at once; after that one in EVERY_S."""
EVERY_S = 600.0
EACH = {"each": True}
"""As `extra` of a line that is a record of what was done, and no fault: it is said each time."""
MAX_LINES = 256
"""Lines that are remembered; those that were not said for longest are forgotten first."""


@dataclass(slots=True)
class _Line:
    said: int = 0
    due: float = 0.0


@dataclass(slots=True)
class _Place:
    left: float
    at: float
    unsaid: int = 0


class Repeats(logging.Filter):
    """Lets through what is news. The next line tells how many of its kind were not; `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lines: dict[tuple[str, int, str], _Line] = {}
        self._places: dict[tuple[str, int], _Place] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        if getattr(record, "each", False):
            return True
        now, text = self._clock(), record.getMessage()
        error = record.exc_info[1] if record.exc_info else ""
        place = self._places.setdefault((record.name, record.lineno), _Place(BURST, now))
        place.left, place.at = min(BURST, place.left + (now - place.at) / EVERY_S), now
        line = self._line((record.name, record.lineno, f"{text}{error}"))
        if place.left < 1 or now < line.due:
            place.unsaid += 1
            return False
        place.left -= 1
        line.said += 1
        if line.said >= SAME:
            line.due = now + min(SAME_S * 2.0 ** min(line.said - SAME, 30), LONGEST_S)
        if place.unsaid:
            record.msg, record.args = f"{text} (and {place.unsaid} more like this since the last one)", ()
            place.unsaid = 0
        return True

    def _line(self, key: tuple[str, int, str]) -> _Line:
        line = self._lines.pop(key, None) or _Line()
        self._lines[key] = line  # the last one now
        if len(self._lines) > MAX_LINES:
            del self._lines[next(iter(self._lines))]
        return line
