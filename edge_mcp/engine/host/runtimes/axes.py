"""Where the batch is: which dimension of each input and output, as far as a file says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_mcp.engine.messages import TensorSpec

Names = Mapping[str, Sequence[str]]
"""What the dimensions of each tensor are called, by its name; "" is one without a name."""


@dataclass(frozen=True)
class Axes:
    """Which dimension of each input and output is the batch. An input that is not there has none: a run's rows share it."""

    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def declared_axes(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], of_inputs: Names, of_outputs: Names
) -> list[Axes]:
    """Where the batch may be, the likeliest first; none in a file of fixed sizes.

    It is a dimension whose name every output has once, no input twice, and some input as its first. Where there is none,
    it may be the first one of every tensor if those are of any size.
    """
    firsts = dict.fromkeys(names[0] for names in of_inputs.values() if names and names[0])
    found = [axes for name in firsts if (axes := _named(name, of_inputs, of_outputs))]
    if inputs and all(spec.shape[:1] == (-1,) for spec in [*inputs, *outputs]):
        found.append(first_axes(inputs, outputs))
    return [axes for index, axes in enumerate(found) if axes not in found[:index]]


def alike(specs: Iterable[TensorSpec]) -> Names:
    """For files without names: what is of any size is taken for one and the same."""
    return {spec.name: ["any" if size == -1 else "" for size in spec.shape] for spec in specs}


def first_axes(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Axes:
    """The first dimension of every tensor."""
    return Axes({spec.name: 0 for spec in inputs}, {spec.name: 0 for spec in outputs})


def part(axis: int, start: int, end: int) -> tuple[slice, ...]:
    """An index: from `start` to `end` along `axis`."""
    return (*(slice(None),) * axis, slice(start, end))


def _named(name: str, of_inputs: Names, of_outputs: Names) -> Axes | None:
    if any(list(names).count(name) > 1 for names in of_inputs.values()):
        return None
    if any(list(names).count(name) != 1 for names in of_outputs.values()):
        return None
    own = {tensor: list(names).index(name) for tensor, names in of_inputs.items() if name in names}
    return Axes(own, {tensor: list(names).index(name) for tensor, names in of_outputs.items()})
