"""How much one peer may ask for: requests per second, and connections. Pure: the clock is given."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAX_PEERS = 1024
BURST_S = 2.0
"""So many seconds' worth of requests may come at once."""
SMALL = 64 * 1024
"""Bytes that every request may hold: the number of connections bounds them together."""


class RateLimit:
    """A token bucket for each address, for at most `MAX_PEERS` of them: the one not seen for longest is forgotten first."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._rate = per_second
        self._most = max(1.0, per_second * BURST_S)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str) -> float:
        """Count one request: 0 when it is within the limit, else the seconds until the next one would be."""
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        left, then = self._buckets.pop(address, (self._most, now))
        left = min(self._most, left + (now - then) * self._rate)
        allowed = left >= 1.0
        self._buckets[address] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._rate


class ConnectionLimit:
    """Counts connections, in all and by address."""

    def __init__(self, most: int, most_per_peer: int) -> None:
        self.most = most
        self.most_per_peer = most_per_peer
        self._counts: dict[str, int] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def enter(self, address: str) -> bool:
        """Count a new connection; whether it is within the limits. Call `leave` in either case."""
        self._all += 1
        self._counts[address] = self._counts.get(address, 0) + 1
        return self._all <= self.most and self._counts[address] <= self.most_per_peer

    def leave(self, address: str) -> None:
        """The connection has ended."""
        self._all -= 1
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]


class ByteBudget:
    """Counts the bytes of all requests that are held at once, beyond `small` of each. One address has at most half of them."""

    def __init__(self, most: int, small: int = SMALL) -> None:
        self._most = most
        self._most_per_peer = most // 2
        self.small = small
        self._by_peer: dict[str, int] = {}
        self.held = 0

    @contextmanager
    def lease(self, address: str) -> Iterator[Callable[[int], bool]]:
        """Hold bytes until the end of the `with`: the function given takes more of them, unless there are no more."""
        hold = Hold(self, address)
        taken = 0

        def take(size: int) -> bool:
            nonlocal taken
            allowed = hold.set(taken + size)
            taken += size if allowed else 0
            return allowed

        try:
            yield take
        finally:
            hold.set(0)

    def resize(self, address: str, before: int, after: int) -> bool:
        """Count another number of bytes for one holder, unless there are no more. See Hold."""
        more = after - before
        if more > 0 and not self._fits(address, more):
            return False
        self._count(address, more)
        return True

    def _fits(self, address: str, size: int) -> bool:
        return self.held + size <= self._most and self._by_peer.get(address, 0) + size <= self._most_per_peer

    def _count(self, address: str, size: int) -> None:
        self.held += size
        self._by_peer[address] = self._by_peer.get(address, 0) + size
        if not self._by_peer[address]:
            del self._by_peer[address]


class Hold:
    """The bytes that one holder has of a budget."""

    __slots__ = ("_address", "_budget", "_counted")

    def __init__(self, budget: ByteBudget, address: str) -> None:
        self._budget = budget
        self._address = address
        self._counted = 0

    def set(self, size: int) -> bool:
        """It holds `size` bytes from now on; False when they are too many, and it holds what it held."""
        after = max(0, size - self._budget.small)
        if after == self._counted:
            return True
        if not self._budget.resize(self._address, self._counted, after):
            return False
        self._counted = after
        return True
