"""The seam between a call's arguments and the model's input tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_mcp.engine.host.runtimes.base import Array


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item, ready to run: a tensor for each model input (batch dimension 1 included where the model has one).

    `source` is what the decoder needs to relate the outputs to the input (for an image: the picture and how it was fitted).
    Where the input alone settles the answer, `tensors` is empty, nothing is run, and `source` is that answer.
    """

    tensors: Mapping[str, Array]
    source: Any = None


class Modality(Protocol):
    """Turns validated arguments into tensors."""

    def prepare(self, arguments: Mapping[str, Any], roots: Sequence[Path]) -> Prepared:
        """`roots` are the folders that `file:` arguments may name. Raises: ArgumentError."""
        ...
