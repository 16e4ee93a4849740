"""What this process has measured since it began: calls, and how long each model took to load and to run. Pure."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

KEPT = 101
ANEW = 16
"""Once that many are kept, what is asked with each call is found anew after so many runs."""


@dataclass(slots=True)
class Counters:
    """What a model has done since the start: calls answered and failed, items and batches run, and microseconds that its calls
    waited and ran, of all of them together."""

    success: int = 0
    failure: int = 0
    inferences: int = 0
    executions: int = 0
    queue_us: int = 0
    compute_us: int = 0


class Holder(Protocol):
    """A connection that tells how many bytes are held for it."""

    @property
    def held(self) -> int:
        """Bytes."""
        ...


@dataclass(slots=True)
class Links:
    """Connections of the network listener: all of them, those that are WebSockets, and what was sent over these since the
    start, in bytes of messages before and after compression."""

    count: Callable[[], int] = lambda: 0
    shared: Callable[[], int] = lambda: 0
    sockets: set[Holder] = field(default_factory=set)
    plain: int = 0
    wire: int = 0

    @property
    def held(self) -> int:
        """Bytes held for the WebSockets: by each, and by what they share."""
        return sum(socket.held for socket in self.sockets) + self.shared()

    @property
    def ratio(self) -> float:
        """How much of their size messages have on the wire."""
        return self.wire / self.plain if self.plain else 1.0

    def sent(self, plain: int, wire: int) -> None:
        """A message was sent."""
        self.plain += plain
        self.wire += wire


class Measurements:
    """Counters, and the last `KEPT` times of each model (by its name), in seconds."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self._runs: defaultdict[str, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._per_byte: dict[str, float] = {}  # until the next run, or some of them where there are many
        self._counted = 0
        self._loads: dict[str, float] = {}
        self._memory: dict[str, float] = {}
        self.models: defaultdict[str, Counters] = defaultdict(Counters)
        self.links = Links()

    def called(self, failed: bool) -> None:
        """A tool was called, and answered or failed."""
        self.answered += not failed
        self.failed += failed

    def executed(self, model: str, size: int, queued_s: float, seconds: float) -> None:
        """A batch of `size` calls ran for `seconds`; together they had waited for `queued_s`."""
        counters = self.models[model]
        counters.inferences += size
        counters.executions += 1
        counters.queue_us += round(queued_s * 1e6)
        counters.compute_us += round(seconds * 1e6)

    def settled(self, model: str, failed: bool) -> None:
        """A call of a model was answered, or failed."""
        counters = self.models[model]
        counters.success += not failed
        counters.failure += failed

    def ran(self, model: str, size: int, seconds: float) -> None:
        """One call ran alone; `size` is that of its arguments in bytes, `seconds` what the runtime took."""
        if seconds > 0:
            runs = self._runs[model]
            runs.append((size, seconds))
            self._counted += 1
            if len(runs) < KEPT or not self._counted % ANEW:
                self._per_byte.pop(model, None)

    def loaded(self, model: str, seconds: float, memory_mb: float = 0.0) -> None:
        """A model was loaded and warmed up, and took this much memory."""
        self._loads[model] = seconds
        self._memory[model] = round(memory_mb, 1)

    def run_s(self, model: str) -> float | None:
        """The median time of a run; None before the first."""
        return _median([seconds for _, seconds in self._runs.get(model, ())])

    def run_s_per_byte(self, model: str) -> float | None:
        """The median time of a run for each byte of its arguments; None before the first."""
        found = self._per_byte.get(model)
        if found is None:
            found = _median([seconds / max(1, size) for size, seconds in self._runs.get(model, ())])
            if found is not None:
                self._per_byte[model] = found
        return found

    def load_s(self, model: str) -> float | None:
        """What the last load took; None before the first."""
        return self._loads.get(model)

    def memory_mb(self, model: str) -> float | None:
        """What the model took when it was last loaded; None before the first."""
        return self._memory.get(model)


def _median(values: list[float]) -> float | None:
    """The upper median: the module `statistics` would cost a megabyte and 4 ms of every start."""
    return sorted(values)[len(values) // 2] if values else None
