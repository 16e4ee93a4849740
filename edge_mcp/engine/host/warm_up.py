"""A model's first runs, and whether its rows may run together."""

import logging
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from edge_mcp.engine.host.runtimes.axes import Axes, part
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel, Value
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import EdgeError

logger = logging.getLogger(__name__)

_GUESSES = (1, 32, 48)  # for a size that is not known: any, and two that pictures and lines of text have at their least
_MAX_GUESSED = 4 * 1024 * 1024  # elements of an input that is made up
_TOLERANCE = 0.02  # of the largest value: an int8 network may round a step otherwise; rows that mix differ by far more
_CONTRAST = 8.0  # how much larger the first row's values are: a scale that is found for a whole batch shows then
# What stands in these may be wrong as such: a place, a count, a shape.
_MEANINGFUL = frozenset({"INT32", "INT64", "UINT32", "UINT64", "BYTES"})


class Tried(NamedTuple):
    """Where the batch is, if it is anywhere; and where it may be, but nothing ran with the sizes that were guessed."""

    axes: Axes | None
    open: Sequence[Axes] = ()


def warm_up(model: LoadedModel, ways: Sequence[Axes]) -> Tried:
    """The first runs: they allocate, and a model that cannot run at all is found now.

    For each way in which there may be a batch two rows are run, and then each of them: its outputs have to be its own, so that
    calls may run together. A file may say that a dimension is of any size and yet mix what lies along it, as attention
    over words does. Sizes that are not known are guessed, and nothing is said against a model that fails on a guess.
    Raises: ModelError when a model fails whose sizes are all known.
    """
    left: list[Axes] = []
    for axes in ways:
        apart = _on_guesses(model, axes)
        if apart:
            return Tried(axes)
        if apart is None:
            left.append(axes)
    if len(left) == len(ways):
        _run_once(model)
    return Tried(None, left)


def rows_are_apart(model: LoadedModel, axes: Axes, sizes: Mapping[str, Sequence[int]], shared: Mapping[str, Array]) -> bool:
    """As above, with the sizes of one row of a call, and what stood in its inputs without a batch. Raises: EdgeError."""
    tensors = _two_rows(model.inputs, axes, sizes)
    return tensors is not None and _are_apart(model, axes, {**tensors, **shared})


def _on_guesses(model: LoadedModel, axes: Axes) -> bool | None:
    """None where it cannot be said."""
    for guess in _GUESSES:
        sizes = {spec.name: [guess if size == -1 else size for size in spec.shape] for spec in model.inputs}
        try:
            tensors = _two_rows(model.inputs, axes, sizes)
            return None if tensors is None else _are_apart(model, axes, tensors)
        except EdgeError as error:
            logger.debug("no first run of two rows with %d for what is of any size: %s", guess, error)
    return None


def _run_once(model: LoadedModel) -> None:
    """On zeros; where these fail, on ones: a divisor or a scale may not be 0."""
    certain = not any(spec.any_rank or -1 in spec.shape or spec.datatype in _MEANINGFUL for spec in model.inputs)
    try:
        model.infer(_filled(model.inputs, 0))
    except EdgeError as zeros:
        try:
            model.infer(_filled(model.inputs, 1))
        except EdgeError:
            if certain:
                raise zeros from None
            logger.debug("a first run failed, which may be the fault of what was made up for it: %s", zeros)


def _filled(inputs: Sequence[TensorSpec], number: int) -> dict[str, Array]:
    filled = {}
    for spec in inputs:
        shape = [1 if size == -1 else size for size in spec.shape]
        filled[spec.name] = np.full(shape, "" if spec.datatype == "BYTES" else number, DATATYPES[spec.datatype])
    return filled


def _two_rows(inputs: Sequence[TensorSpec], axes: Axes, sizes: Mapping[str, Sequence[int]]) -> dict[str, Array] | None:
    """Two rows that differ, for each input; None where that would take too much memory."""
    random = np.random.default_rng(0)
    rows: dict[str, Array] = {}
    for spec in inputs:
        shape, axis = list(sizes[spec.name]), axes.inputs.get(spec.name)
        if axis is not None:
            shape[axis] = 2
        if prod(shape) > _MAX_GUESSED:
            return None
        dtype = DATATYPES[spec.datatype]
        if dtype.kind == "f":
            values: Array = random.standard_normal(shape)
            if axis is not None:
                values[part(axis, 0, 1)] *= _CONTRAST
        else:
            values = random.integers(*_range(spec.datatype, dtype), shape, endpoint=True)
        rows[spec.name] = values.astype(str).astype(dtype) if dtype.kind == "O" else values.astype(dtype)
    return rows


def _range(datatype: str, dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the largest to be made up: bytes are a picture's or a quantized network's, where small ones say nothing;
    of whatever else there is, there are probably two."""
    if datatype in _MEANINGFUL or dtype.kind not in "iu":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _are_apart(model: LoadedModel, axes: Axes, tensors: Mapping[str, Array]) -> bool:
    """Both rows are looked at: a file may mix what comes after into what comes before, and not the other way round.

    The smaller runs come last, and give the memory of the larger one back.
    """
    both = model.infer(tensors)
    return all(_is_own(model, axes, tensors, both, row) for row in (1, 0))


def _is_own(model: LoadedModel, axes: Axes, tensors: Mapping[str, Array], both: Mapping[str, Value], row: int) -> bool:
    """Whether one row answers alone what it does beside the other."""
    own = {
        name: array[part(axes.inputs[name], row, row + 1)] if name in axes.inputs else array for name, array in tensors.items()
    }
    alone = model.infer(own)
    return all(_is_row(row, both[name], alone[name], axis) for name, axis in axes.outputs.items())


def _is_row(row: int, both: Value, alone: Value, axis: int) -> bool:
    if not isinstance(both, np.ndarray) or not isinstance(alone, np.ndarray) or both.ndim <= axis:
        return False
    if alone.shape[axis : axis + 1] != (1,) or both.shape != (*alone.shape[:axis], 2, *alone.shape[axis + 1 :]):
        return False
    both = both[part(axis, row, row + 1)]
    if both.dtype.kind not in "iuf":
        return bool((both == alone).all())
    together, only = both.astype(np.float64), alone.astype(np.float64)
    finite = np.abs(only[np.isfinite(only)])
    if only.size and not finite.size:
        return False  # overflow, or no number at all, would hide whatever is mixed in
    return bool(np.allclose(together, only, rtol=0, atol=_TOLERANCE * finite.max(initial=0) + 1e-6, equal_nan=True))
