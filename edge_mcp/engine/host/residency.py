"""Which models are in memory."""

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_mcp.engine.host.batches import Report
from edge_mcp.engine.host.served import ServedModel, import_parts
from edge_mcp.engine.memory import anonymous_and_mapped_mb
from edge_mcp.engine.messages import Item, ModelSpec, Outcome


class Served(Protocol):
    """What a lane runs; see ServedModel."""

    def run(self, items: Sequence[Item], stage: Callable[[str], None], report: Report = ...) -> tuple[list[Outcome], float]:
        """The outcome of each item in order, and the runtime's seconds for all."""
        ...

    def measure(self, most: int = 0) -> dict[int, float]:
        """Seconds of the runtime by batch size; none where nothing can be said."""
        ...

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        ...


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much this process grew in a load: with the model, and with the packages that it was the first to need; and what it
    had before. In units of 2^20 bytes."""

    memory_mb: float
    imported_mb: float
    start_mb: float


@dataclass(slots=True)
class _Resident:
    """A loaded model, how many runs use it, and whether the last of them has to close it."""

    model: Served
    growth: Growth
    runs: int = 0
    leaving: bool = False


class NotLoadedError(Exception):
    """There is no such model in memory, or no longer."""


class Residency:
    """The loaded models by key; safe to use from every lane."""

    def __init__(self) -> None:
        self._residents: dict[str, _Resident] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def load(self, spec: ModelSpec) -> Growth:
        """Load a model unless it is there; one at a time, so that two loads never need twice the memory.

        What runs on other lanes meanwhile is measured with it. Of the files that are mapped in a load no more is counted as the
        model's than its own file: the rest are parts of the runtime that are used for the first time. Raises: ModelError.
        """
        with self._loading:
            if resident := self._residents.get(spec.key):
                return resident.growth
            _give_back()
            start_mb = sum(anonymous_and_mapped_mb())
            import_parts(spec.manifest)
            own, mapped = anonymous_and_mapped_mb()
            model = _load(spec)
            _give_back()
            own_after, mapped_after = anonymous_and_mapped_mb()
            memory_mb = max(0.0, own_after - own) + max(0.0, min(mapped_after - mapped, _file_mb(spec)))
            growth = Growth(memory_mb, max(0.0, own_after + mapped_after - start_mb - memory_mb), start_mb)
            with self._lock:
                self._residents[spec.key] = _Resident(model, growth)
            return growth

    @contextmanager
    def using(self, key: str) -> Iterator[Served]:
        """A loaded model, which stays whole until this ends. Raises: NotLoadedError."""
        with self._lock:
            resident = self._residents.get(key)
            if resident is None:
                raise NotLoadedError(key)
            resident.runs += 1
        try:
            yield resident.model
        finally:
            with self._lock:
                resident.runs -= 1
                last = resident.leaving and resident.runs == 0
            if last:
                _close(resident)

    def unload(self, key: str) -> None:
        """Give a model's memory back to the system; if runs still use it, the last of them does so. Unknown: nothing to do."""
        with self._lock:
            resident = self._residents.pop(key, None)
            if resident is None:
                return
            resident.leaving = True
            idle = resident.runs == 0
        if idle:
            _close(resident)


def _load(spec: ModelSpec) -> Served:
    if not spec.manifest.steps:
        return ServedModel.load(spec)
    from edge_mcp.engine.host.pipeline import Pipeline  # which needs Pillow, and many devices have no pipeline

    return Pipeline.load(spec)


def _close(resident: _Resident) -> None:
    resident.model.close()
    _give_back()


def _file_mb(spec: ModelSpec) -> float:
    files = {Path(spec.folder) / part.model.file for part in spec.manifest.parts}
    return sum(file.stat().st_size for file in files) / (1024 * 1024)


def _give_back() -> None:
    """Return what was freed to the system, 4 to 6 MB after a load; the C library would keep it (musl has nothing to return)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
