"""The argument `text` -> how often each n-gram of a vocabulary occurs in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.files import read_beside
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.checks import fits
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError, ModelError
from edge_mcp.repository.inputs import TextInput


class TextModality:
    """Counts byte n-grams of the UTF-8 text; of a longer text only the first `max_bytes` bytes."""

    def __init__(self, config: TextInput, inputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the vocabulary is missing, torn, or not of the model's size."""
        self._columns = _read_vocabulary(folder, config.vocabulary)
        self._lengths = sorted({len(gram) for gram in self._columns})
        self._max_bytes = config.max_bytes
        shape = (1, len(self._columns))
        if len(inputs) != 1 or not fits(inputs[0].shape, shape) or inputs[0].datatype != "FP32":
            there = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in inputs)
            raise ModelError(
                f"{config.vocabulary} has {len(self._columns)} n-grams, which makes one FP32 input of shape {list(shape)}",
                f"The model's inputs: {there}",
            )
        self._name = inputs[0].name

    def prepare(self, arguments: Mapping[str, Any], roots: Sequence[Path]) -> Prepared:
        """Tensor: float32 [1, n-grams]. Raises: ArgumentError when the text is empty."""
        text: str = arguments["text"]
        if not text.strip():
            raise ArgumentError("the text is empty", "Send at least a few words")
        data = text[: self._max_bytes].encode("utf-8", "replace")[: self._max_bytes]
        counts = np.zeros((1, len(self._columns)), np.float32)
        for length in self._lengths:
            occurring = Counter(data[start : start + length] for start in range(len(data) - length + 1))
            for gram in occurring.keys() & self._columns.keys():
                counts[0, self._columns[gram]] = occurring[gram]
        return Prepared({self._name: counts})


def _read_vocabulary(folder: Path, name: str) -> dict[bytes, int]:
    """N-gram -> column, from one length byte and that many bytes for each."""
    content = read_beside(folder, name)
    columns: dict[bytes, int] = {}
    position = 0
    while position < len(content):
        end = position + 1 + content[position]
        gram = content[position + 1 : end]
        if not gram or end > len(content) or gram in columns:
            raise ModelError(f"{name} is not a vocabulary: it is torn, or repeats itself, at byte {position}")
        columns[gram] = len(columns)
        position = end
    return columns
