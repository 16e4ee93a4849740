"""What a tool's arguments are called that are a model's inputs."""

import re
from collections.abc import Sequence

from edge_mcp.engine.messages import TensorSpec

RESERVED = frozenset({"encoding", "dequantize"})
"""Arguments that every tensor tool may have."""

_LONGEST = 64
_FITTING = re.compile(r"[a-zA-Z0-9_.-]{1,64}")  # what hosts take as the name of an argument


def argument_names(inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """One for each input, in order: its own name where that fits and is free, else a name made of it that does."""
    taken = set(RESERVED)
    names: dict[int, str] = {}
    for index, spec in enumerate(inputs):
        if _FITTING.fullmatch(spec.name) and spec.name not in taken:
            names[index] = spec.name
            taken.add(spec.name)
    for index, spec in enumerate(inputs):
        if index not in names:
            names[index] = _free(spec.name, taken)
            taken.add(names[index])
    return tuple(names[index] for index in range(len(inputs)))


def _free(name: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-zA-Z0-9_.-]+", "_", name[: 4 * _LONGEST])[:_LONGEST].strip("_") or "input"
    candidate, number = base, 2
    while candidate in taken:
        ending = f"_{number}"
        candidate = base[: _LONGEST - len(ending)] + ending
        number += 1
    return candidate
