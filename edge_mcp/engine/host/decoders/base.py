"""The seam between a model's output tensors and a tool's result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import Array


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's answer: JSON-ready `structured` (matches the tool's `outputSchema`) and, when asked for, a PNG `picture`."""

    structured: dict[str, Any]
    picture: bytes | None = None


class Decoder(Protocol):
    """Turns one item's outputs into its result."""

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`outputs` are by name, batch dimension 1 kept; `arguments` are the validated ones of this item."""
        ...
