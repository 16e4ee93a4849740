"""The argument `data` -> the bytes at a file's beginning and end, as Magika takes them (Fratantonio et al. 2024)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.payload import read_payload
from edge_mcp.engine.host.runtimes.base import DATATYPES
from edge_mcp.engine.host.runtimes.checks import fits
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import BytesInput

# The answers that need no model, in Magika's words.
EMPTY, TEXT, UNKNOWN = "empty", "txt", "unknown"


class BytesModality:
    """The first `begin` bytes without leading white space, then the last `end` without trailing, each padded."""

    def __init__(self, config: BytesInput, inputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError when the model's input is not of that size."""
        self._config = config
        shape = (1, config.begin + config.end)
        kind = DATATYPES[inputs[0].datatype].kind if len(inputs) == 1 else ""
        if kind not in ("i", "f") or not fits(inputs[0].shape, shape):
            there = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in inputs)
            raise ModelError(f"the manifest makes one input of shape {list(shape)}", f"The model's inputs: {there}")
        self._spec = inputs[0]

    def prepare(self, arguments: Mapping[str, Any], roots: Sequence[Path]) -> Prepared:
        """Tensor: [1, begin + end] of the model's dtype.

        No bytes are "empty"; fewer than `min_bytes`, also after stripping, are "txt" if they are UTF-8 and else "unknown":
        nothing is run for them. Raises: ArgumentError.
        """
        data = read_payload(arguments["data"], roots)
        if not data:
            return Prepared({}, EMPTY)
        config = self._config
        begin = data[: config.block].lstrip()[: config.begin]
        if len(begin) < config.min_bytes:
            return Prepared({}, TEXT if _is_text(data) else UNKNOWN)
        # -0 would be the whole: without an end, nothing is taken from there
        end = data[-config.block :].rstrip()[-config.end :] if config.end else b""
        tokens = np.full((1, config.begin + config.end), config.padding, DATATYPES[self._spec.datatype])
        tokens[0, : len(begin)] = np.frombuffer(begin, np.uint8)
        tokens[0, tokens.shape[1] - len(end) :] = np.frombuffer(end, np.uint8)
        return Prepared({self._spec.name: tokens})


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
