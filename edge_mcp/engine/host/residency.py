"""Which models are in memory."""

import ctypes
import threading

from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.messages import ModelSpec
from edge_mcp.errors import ModelError


class Residency:
    """The loaded models by key; safe to use from every lane."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}
        self._lock = threading.Lock()

    def load(self, spec: ModelSpec) -> None:
        """Load a model unless it is there; one at a time, so that two loads never need twice the memory. Raises: ModelError."""
        with self._lock:
            if spec.key not in self._models:
                self._models[spec.key] = ServedModel.load(spec)
                _give_back()

    def get(self, key: str) -> ServedModel:
        """A loaded model. Raises: ModelError."""
        try:
            return self._models[key]
        except KeyError:
            raise ModelError(f"{key} is not loaded") from None


def _give_back() -> None:
    """Return what loading freed to the system, 4 to 6 MB a model; the C library would keep it (musl has nothing to return)."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
