"""Other ways to schedule, in the place of ours: for the comparisons of the simulation and of `scripts/bench/overload`."""

from collections.abc import Callable

from edge_mcp.scheduling.knee import Service
from edge_mcp.scheduling.policy import Allowed, Call, Refusal, Scheduler


class Fifo(Scheduler):
    """First come, first served, and nothing refused: an idle lane takes what waits, up to the knee."""

    def __init__(self, allowed: Allowed, services: Callable[[str], Service], clock: Callable[[], float]) -> None:
        super().__init__(allowed, services)
        self.clock = clock
        self._calls: list[Call] = []
        self._came: dict[Call, float] = {}

    @property
    def queued(self) -> int:
        """See Scheduler."""
        return len(self._calls)

    def admit(self, now: float, call: Call) -> Refusal | None:
        """See Scheduler."""
        self._calls.append(call)
        self._came[call] = now
        return None

    def release(self, now: float) -> list[Call]:
        """See Scheduler."""
        if self.running >= self.allowed.lanes or not self._calls:
            return []
        model = self._calls[0].model
        batch = [call for call in self._calls[: 4 * self.most(model)] if call.model == model][: self.most(model)]
        if not self.ripe(now, batch):
            return []
        for call in batch:
            self._calls.remove(call)
            del self._came[call]
        self.released(batch)
        return batch

    def expire(self, now: float) -> list[Call]:
        """See Scheduler."""
        return []

    def withdraw(self, call: Call) -> bool:
        """See Scheduler."""
        if call not in self._came:
            return False
        self._calls.remove(call)
        del self._came[call]
        return True

    def most(self, model: str) -> int:
        """The largest batch."""
        return self._services(model).knee

    def ripe(self, now: float, batch: list[Call]) -> bool:
        """Whether a batch may go."""
        return True

    def released(self, batch: list[Call]) -> None:
        """A batch goes: `started` comes next."""

    def due(self) -> float | None:
        """When to ask `release` again, although nothing came and nothing ended."""
        return None


class Window(Fifo):
    """A fixed window, as servers for large machines have it: the first of a batch waits for others."""

    WAIT_S = 0.002

    def ripe(self, now: float, batch: list[Call]) -> bool:
        """See Fifo."""
        return len(batch) == self.most(batch[0].model) or now >= self._came[batch[0]] + self.WAIT_S - 1e-9

    def due(self) -> float | None:
        """See Fifo."""
        return self._came[self._calls[0]] + self.WAIT_S if self._calls else None


class Aimd(Fifo):
    """A cap on the batch that finds its own way: one more after a batch in time, a tenth less after a late one (Clipper)."""

    def __init__(self, allowed: Allowed, services: Callable[[str], Service], clock: Callable[[], float]) -> None:
        super().__init__(allowed, services, clock)
        self._cap = 1.0
        self._going: list[Call] = []
        self._batches: dict[int, list[Call]] = {}

    def most(self, model: str) -> int:
        """See Fifo."""
        return max(1, min(32, int(self._cap)))

    def released(self, batch: list[Call]) -> None:
        """See Fifo."""
        self._going = batch

    def started(self, now: float, model: str, size: int) -> int:
        """See Scheduler."""
        ticket = super().started(now, model, size)
        self._batches[ticket], self._going = self._going, []
        return ticket

    def finished(self, ticket: int) -> None:
        """See Scheduler."""
        super().finished(ticket)
        if batch := self._batches.pop(ticket, None):
            late = any(self.clock() > call.deadline for call in batch)
            self._cap = max(1.0, self._cap * 0.9) if late else min(32.0, self._cap + 1)
