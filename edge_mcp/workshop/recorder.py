"""A loaded model that keeps what it was asked and what it answered."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mcp.engine.host.runtimes.base import Array, KeepsState, LoadedModel, Value

MAX_KEPT_BYTES = 512 * 1024 * 1024

Run = tuple[Mapping[str, Array], Mapping[str, Value]]
"""The inputs and outputs of one."""


class Log:
    """While `on`, the runs of a model and of its sessions, until they would take more than `MAX_KEPT_BYTES` in all."""

    def __init__(self) -> None:
        self.on = False
        self._runs: list[Run] = []
        self._kept = 0

    def add(self, tensors: Mapping[str, Array], outputs: Mapping[str, Value]) -> None:
        """Keep a run."""
        size = sum(np.asarray(array).nbytes for array in tensors.values())
        size += sum(value.nbytes for value in outputs.values() if isinstance(value, np.ndarray))
        if self.on and self._kept + size <= MAX_KEPT_BYTES:
            self._kept += size
            self._runs.append(({name: np.array(array) for name, array in tensors.items()}, dict(outputs)))

    def taken(self) -> list[Run]:
        """What was kept since this was last asked."""
        runs, self._runs = self._runs, []
        return runs


class Recorder:
    """See LoadedModel."""

    def __init__(self, model: LoadedModel, log: Log) -> None:
        self._model = model
        self._log = log

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """See LoadedModel."""
        outputs = self._model.infer(tensors)
        self._log.add(tensors, outputs)
        return outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class StatefulRecorder(Recorder):
    """See KeepsState."""

    def session(self) -> LoadedModel:
        """See KeepsState."""
        inner: Any = self._model
        recorder: Any = Recorder(inner.session(), self._log)
        model: LoadedModel = recorder
        return model


def recorded(model: LoadedModel, log: Log) -> LoadedModel:
    """The same model, whose runs go into `log`."""
    recorder: Any = StatefulRecorder(model, log) if isinstance(model, KeepsState) else Recorder(model, log)
    watched: LoadedModel = recorder
    return watched
