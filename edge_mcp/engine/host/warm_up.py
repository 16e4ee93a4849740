"""A model's first runs."""

import logging
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

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


def warm_up(model: LoadedModel, batch: bool) -> bool:
    """The first runs: they allocate, and a model that cannot run at all is found now.

    With `batch` two rows are run, and then one of them, and the answer is whether each row's outputs are its own, so that calls
    may run together: a file may say that its first dimension is of any size and yet mix what lies along it, as attention over
    words does. Sizes that are not known are guessed, and nothing is said against a model that fails on a guess.
    Raises: ModelError when a model fails whose sizes are all known.
    """
    if batch:
        for guess in _GUESSES:
            tensors = _two_rows(model.inputs, guess)
            try:
                return tensors is not None and _rows_are_apart(model, tensors)
            except EdgeError as error:
                logger.debug("no first run of two rows with %d for what is of any size: %s", guess, error)
    _run_once(model)
    return False


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


def _two_rows(inputs: Sequence[TensorSpec], guess: int) -> dict[str, Array] | None:
    """Two rows that differ, for each input; None where that would take too much memory."""
    random = np.random.default_rng(0)
    rows: dict[str, Array] = {}
    for spec in inputs:
        shape = [2, *(guess if size == -1 else size for size in spec.shape[1:])]
        if prod(shape) > _MAX_GUESSED:
            return None
        dtype = DATATYPES[spec.datatype]
        if dtype.kind == "f":
            values: Array = random.standard_normal(shape)
            values[0] *= _CONTRAST
        else:
            values = random.integers(0, 2, shape)  # of whatever there is, there are probably two
        rows[spec.name] = values.astype(str).astype(dtype) if dtype.kind == "O" else values.astype(dtype)
    return rows


def _rows_are_apart(model: LoadedModel, tensors: Mapping[str, Array]) -> bool:
    """The smaller run comes last, and gives the memory of the larger one back."""
    both = model.infer(tensors)
    alone = model.infer({name: array[1:] for name, array in tensors.items()})
    return all(_is_second_row(both[name], alone[name]) for name in both)


def _is_second_row(both: Value, alone: Value) -> bool:
    if not isinstance(both, np.ndarray) or not isinstance(alone, np.ndarray) or both.ndim == 0:
        return False
    if both.shape != (2, *alone.shape[1:]) or alone.shape[:1] != (1,):
        return False
    if both.dtype.kind not in "iuf":
        return bool((both[1] == alone[0]).all())
    second, only = both[1].astype(np.float64), alone[0].astype(np.float64)
    largest = np.abs(only).max(initial=0)
    return bool(np.allclose(second, only, rtol=0, atol=_TOLERANCE * largest + 1e-6, equal_nan=True))
