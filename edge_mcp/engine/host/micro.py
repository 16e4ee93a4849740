"""The front end of TensorFlow Lite Micro; the only module that imports `pymicro_features`."""

from collections.abc import Iterator

import numpy as np
from pymicro_features import MicroFrontend

from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.repository.inputs import AudioInput

_HOP = 160  # samples: 10 ms at 16 kHz, the only piece it takes
_BANDS = 40
_OVERLAP = 320  # samples: a row is of 30 ms


class MicroFeatures:
    """40 bands of energy every 10 ms, noise taken out and gain adjusted, `window` rows for a step. See features.Features."""

    def __init__(self, config: AudioInput) -> None:
        self.size = config.window * _BANDS
        self.delay = _OVERLAP
        self._rows: list[list[float]] = []
        self._kept = np.zeros(0, np.int16)
        self._wanted = config.window
        self._native = MicroFrontend()

    def feed(self, samples: Array) -> Iterator[Array]:
        """See Features."""
        integers = np.rint(np.clip(samples * 32768, -32768, 32767)).astype(np.int16)
        self._kept = np.concatenate([self._kept, integers])
        while len(self._kept) >= _HOP:
            piece, self._kept = self._kept[:_HOP], self._kept[_HOP:]
            row = self._native.process_samples(piece.tobytes()).features
            if row:  # not before the first 30 ms
                self._rows.append(row)
            if len(self._rows) == self._wanted:
                step = np.array(self._rows, np.float32).reshape(-1)
                self._rows.clear()
                yield step

    def flush(self) -> Iterator[Array]:
        """See Features: what is left is no step."""
        return iter(())
