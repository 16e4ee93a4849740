"""Which models are in memory."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_mcp.engine.host.served import ServedModel, import_parts
from edge_mcp.engine.memory import process_mb
from edge_mcp.engine.messages import ModelSpec


@dataclass(slots=True)
class _Resident:
    """A loaded model, how many runs use it, and whether the last of them has to close it."""

    model: ServedModel
    memory_mb: float
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

    def load(self, spec: ModelSpec) -> tuple[float, float]:
        """Load a model unless it is there; one at a time, so that two loads never need twice the memory.

        Returns what the model added to this process's memory, and what the packages did that it was the first to need, in
        units of 2^20 bytes. What runs on other lanes meanwhile is measured with it. Raises: ModelError.
        """
        with self._loading:
            if resident := self._residents.get(spec.key):
                return resident.memory_mb, 0.0
            _give_back()
            before = process_mb()
            import_parts(spec.manifest)
            imported = process_mb()
            model = ServedModel.load(spec)
            _give_back()
            memory_mb = max(0.0, process_mb() - imported)
            with self._lock:
                self._residents[spec.key] = _Resident(model, memory_mb)
            return memory_mb, max(0.0, imported - before)

    @contextmanager
    def using(self, key: str) -> Iterator[ServedModel]:
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


def _close(resident: _Resident) -> None:
    resident.model.close()
    gc.collect()
    _give_back()


def _give_back() -> None:
    """Return what was freed to the system, 4 to 6 MB after a load; the C library would keep it (musl has nothing to return)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
