"""Characters of a line (Graves et al. 2006, "Connectionist Temporal Classification")."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.files import float_output, read_labels
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import CtcOutput


class CtcDecoder:
    """Scores [1, steps, classes], or logits that still need a softmax -> a text, by the best path."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the characters do not fit the model's one output."""
        if not isinstance(manifest.output, CtcOutput):
            raise ModelError('output.decoder is not "ctc"')
        self._config = manifest.output
        self._characters = read_labels(folder, self._config.labels)
        if self._config.blank >= len(self._characters):
            raise ModelError(
                f"output.blank is {self._config.blank}, but {self._config.labels} has {len(self._characters)} lines",
                "The first class is 0",
            )
        if len(outputs) != 1:
            raise ModelError(f'the decoder "ctc" needs a model with one output; this one has {len(outputs)}')
        self._name = float_output(outputs, outputs[0].name, (1, -1, len(self._characters))).name

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`text`, and `score`: the mean of its characters' probabilities. A text that scores too little is left out."""
        scores = np.nan_to_num(outputs[self._name].reshape(-1, len(self._characters)).astype(np.float32))
        if self._config.activation == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        best = scores.argmax(axis=1)
        # A class that goes on is one character; the same character twice has a blank between.
        begins = (best != self._config.blank) & (np.diff(best, prepend=-1) != 0)
        text = "".join(self._characters[index] for index in best[begins])
        score = float(np.clip(scores[begins, best[begins]], 0, 1).mean()) if text else 0.0
        if score < arguments["threshold"]:
            text, score = "", 0.0
        return Result({"text": text, "score": round(score, 4)})
