"""What is kept between the calls of a stream: for each owner under a name, bounded in number and time."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

PER_OWNER = 16
IN_ALL = 32
TTL_S = 600.0
"""A stream that is not used for so long is forgotten: its clients have to call more often than that."""

State = TypeVar("State")
_Key = tuple[str, str]


class _Entry(Generic[State]):
    """One stream; `turn` is held by the call that uses it, `calls` counts those that use it or wait for it."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.turn = threading.Lock()
        self.calls = 0
        self.used = 0.0
        self.gone = False


class Use(Generic[State]):
    """One call's use of a stream: what is kept of it, and whether it begins here. It is forgotten afterwards unless `keep`."""

    def __init__(self, state: State, is_new: bool) -> None:
        self.state = state
        self.is_new = is_new
        self.keep = False


class Streams(Generic[State]):
    """The streams of one model; safe to use from every lane.

    Of an owner with more than `per_owner`, the one that was used least recently is forgotten for a new one; of more than
    `in_all` one of the owner who has the most. `clock` is in seconds.
    """

    def __init__(
        self,
        make: Callable[[], State],
        clock: Callable[[], float] = time.monotonic,
        per_owner: int = PER_OWNER,
        in_all: int = IN_ALL,
        ttl_s: float = TTL_S,
    ) -> None:
        self._make = make
        self._clock = clock
        self._per_owner = per_owner
        self._in_all = in_all
        self._ttl_s = ttl_s
        self._entries: OrderedDict[_Key, _Entry[State]] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @contextmanager
    def using(self, owner: str, name: str) -> Iterator[Use[State]]:
        """A stream, made if there is none; one call at a time has it, others wait."""
        key = (owner, name)
        entry = self._turn(key)
        use: Use[State] | None = None
        try:
            is_new = entry.state is None
            if entry.state is None:
                entry.state = self._make()
            use = Use(entry.state, is_new)
            yield use
        finally:
            self._leave(key, entry, use is not None and use.keep)

    def clear(self) -> None:
        """Forget all streams."""
        with self._lock:
            for key in list(self._entries):
                self._forget(key)

    def _turn(self, key: _Key) -> _Entry[State]:
        """The entry, made if there is none, once it is this call's turn."""
        while True:
            with self._lock:
                self._expire()
                entry = self._entries.get(key)
                if entry is None:
                    self._make_room(key[0])
                    entry = self._entries[key] = _Entry()
                entry.calls += 1
                self._entries.move_to_end(key)
            entry.turn.acquire()
            if not entry.gone:
                return entry
            entry.turn.release()  # whoever had it before ended it: this call begins a new one

    def _leave(self, key: _Key, entry: _Entry[State], keep: bool) -> None:
        with self._lock:
            entry.calls -= 1
            entry.used = self._clock()
            if not keep and self._entries.get(key) is entry:
                self._forget(key)
        entry.turn.release()

    def _expire(self) -> None:
        oldest = self._clock() - self._ttl_s
        for key in [key for key, entry in self._entries.items() if not entry.calls and entry.used < oldest]:
            self._forget(key)

    def _make_room(self, owner: str) -> None:
        counts = Counter(holder for holder, _ in self._entries)
        if counts[owner] >= self._per_owner:
            self._evict(owner)
        elif len(self._entries) >= self._in_all:
            self._evict(counts.most_common(1)[0][0])

    def _evict(self, owner: str) -> None:
        """Forget this owner's least recently used one that no call has; those are as many as there are lanes at most."""
        for key, entry in self._entries.items():
            if key[0] == owner and not entry.calls:
                self._forget(key)
                return

    def _forget(self, key: _Key) -> None:
        entry = self._entries.pop(key)
        entry.gone = True
