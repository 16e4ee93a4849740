"""What was sent on a session's streams, kept for a while so that a client can take a broken stream up again."""

from collections import OrderedDict
from collections.abc import Iterator

EVENTS = 1024
BYTES = 8 * 1024 * 1024


class Replay:
    """Frames by key (session, stream) and number; of all sessions together, the oldest go first. No I/O, no clock."""

    def __init__(self, events: int = EVENTS, size: int = BYTES) -> None:
        self._most_events = events
        self._most_bytes = size
        self._bytes = 0
        self._events: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._numbers: dict[tuple[str, int], list[int]] = {}

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._bytes

    def add(self, session: str, stream: int, number: int, frame: bytes) -> None:
        """Keep a frame; one that is larger than everything allowed is not kept."""
        self._events[session, stream, number] = frame
        self._numbers.setdefault((session, stream), []).append(number)
        self._bytes += len(frame)
        while self._bytes > self._most_bytes or len(self._events) > self._most_events:
            self._forget(next(iter(self._events)))

    def after(self, session: str, stream: int, number: int) -> Iterator[tuple[int, bytes]]:
        """What was sent on a stream after `number`, in order, as far as it is kept."""
        for kept in list(self._numbers.get((session, stream), ())):
            frame = self._events.get((session, stream, kept))
            if kept > number and frame is not None:
                yield kept, frame

    def has(self, session: str, stream: int) -> bool:
        """Whether anything of a stream is kept."""
        return (session, stream) in self._numbers

    def drop(self, session: str, streams: Iterator[int]) -> None:
        """Forget a session's streams."""
        for stream in streams:
            for number in list(self._numbers.get((session, stream), ())):
                self._forget((session, stream, number))

    def _forget(self, key: tuple[str, int, int]) -> None:
        session, stream, number = key
        self._bytes -= len(self._events.pop(key))
        numbers = self._numbers[session, stream]
        numbers.remove(number)
        if not numbers:
            del self._numbers[session, stream]
