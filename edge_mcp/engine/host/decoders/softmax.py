"""One score for each of a list of labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.files import float_output, read_labels, shaped
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SoftmaxOutput


class SoftmaxDecoder:
    """Scores [1, labels], or logits that are still to be put through a softmax -> the best labels."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the labels do not fit the model's one output."""
        if not isinstance(manifest.output, SoftmaxOutput):
            raise ModelError('output.decoder is not "softmax"')
        self._config = manifest.output
        self._labels = read_labels(folder, self._config.labels)
        if len(outputs) != 1:
            raise ModelError(f'the decoder "softmax" needs a model with one output; this one has {len(outputs)}')
        self._name = float_output(outputs, outputs[0].name, (1, len(self._labels))).name

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`label` is the best, as far as it is to be trusted; `labels` are the best by falling score."""
        if not outputs:
            return Result({"label": prepared.source, "labels": [{"label": prepared.source, "score": 1.0}]})
        scores = self._scores(shaped(outputs, self._name, (len(self._labels),)))
        order = np.argsort(-scores, kind="stable")
        best = self._labels[order[0]]
        trusted = scores[order[0]] >= self._config.thresholds.get(best, arguments["threshold"])
        labels = [
            {"label": self._labels[index], "score": round(float(scores[index]), 4)}
            for index in order[: arguments["max_results"]]
            if scores[index] >= arguments["threshold"]
        ]
        return Result({"label": self._config.replace.get(best, best) if trusted else self._config.fallback, "labels": labels})

    def _scores(self, values: Array) -> Array:
        values = np.nan_to_num(values.astype(np.float32))
        if self._config.activation == "softmax":
            powers = np.exp(values - values.max())
            values = powers / powers.sum()
        scores: Array = np.clip(values, 0, 1)
        return scores
