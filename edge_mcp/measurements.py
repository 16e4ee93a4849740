"""What this process has measured since it began: calls, and how long each model took to load and to run. Pure."""

from collections import defaultdict, deque

KEPT = 101


class Measurements:
    """Counters, and the last `KEPT` times of each model (by its name), in seconds."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self._runs: defaultdict[str, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._loads: dict[str, float] = {}
        self._memory: dict[str, float] = {}

    def called(self, failed: bool) -> None:
        """A tool was called, and answered or failed."""
        self.answered += not failed
        self.failed += failed

    def ran(self, model: str, size: int, seconds: float) -> None:
        """One call ran alone; `size` is that of its arguments in bytes, `seconds` what the runtime took."""
        if seconds > 0:
            self._runs[model].append((size, seconds))

    def loaded(self, model: str, seconds: float, memory_mb: float = 0.0) -> None:
        """A model was loaded and warmed up, and took this much memory."""
        self._loads[model] = seconds
        self._memory[model] = round(memory_mb, 1)

    def run_s(self, model: str) -> float | None:
        """The median time of a run; None before the first."""
        return _median([seconds for _, seconds in self._runs.get(model, ())])

    def run_s_per_byte(self, model: str) -> float | None:
        """The median time of a run for each byte of its arguments; None before the first."""
        return _median([seconds / max(1, size) for size, seconds in self._runs.get(model, ())])

    def load_s(self, model: str) -> float | None:
        """What the last load took; None before the first."""
        return self._loads.get(model)

    def memory_mb(self, model: str) -> float | None:
        """What the model took when it was last loaded; None before the first."""
        return self._memory.get(model)


def _median(values: list[float]) -> float | None:
    """The upper median: the module `statistics` would cost a megabyte and 4 ms of every start."""
    return sorted(values)[len(values) // 2] if values else None
