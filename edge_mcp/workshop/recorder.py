"""A loaded model that keeps what it was asked and what it answered."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mcp.engine.host.runtimes.base import Array, LoadedModel, Value

MAX_KEPT_BYTES = 512 * 1024 * 1024


class Recorder:
    """See LoadedModel; while `on`, each run's tensors are kept, until they would take more than `MAX_KEPT_BYTES`."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.on = False
        self.runs: list[tuple[Mapping[str, Array], Mapping[str, Value]]] = []
        self._kept = 0

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """See LoadedModel."""
        outputs = self._model.infer(tensors)
        size = sum(np.asarray(array).nbytes for array in tensors.values())
        size += sum(value.nbytes for value in outputs.values() if isinstance(value, np.ndarray))
        if self.on and self._kept + size <= MAX_KEPT_BYTES:
            self._kept += size
            self.runs.append(({name: np.array(array) for name, array in tensors.items()}, dict(outputs)))
        return outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
