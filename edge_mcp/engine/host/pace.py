"""What batches of a model cost on this device."""

import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from edge_mcp.engine.host.runtimes.axes import Axes, part
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel
from edge_mcp.errors import EdgeError

SIZES = (1, 2, 4, 8, 16, 32)
_RUNS = 5
_LONGEST_S = 0.25
"""Larger batches are not tried once one took this long: the device has other work."""
_NO_GAIN = 1.9
"""A batch that takes this many times as long as one of half its size: the next larger one will gain nothing either."""
_MAX_ELEMENTS = 16 * 1024 * 1024
_MAX_SHARED = 64 * 1024  # bytes


class Sample(NamedTuple):
    """One row of a call: the sizes of each input, and what stood in those that have no batch."""

    sizes: Mapping[str, Sequence[int]]
    shared: Mapping[str, Array]


def sample_of(axes: Axes, tensors: Mapping[str, Array]) -> Sample | None:
    """What a call's rows are like; None where what they share is too large to be kept."""
    row = {name: array[part(axes.inputs[name], 0, 1)] if name in axes.inputs else array for name, array in tensors.items()}
    shared = {name: array.copy() for name, array in tensors.items() if name not in axes.inputs and array.nbytes <= _MAX_SHARED}
    if any(array.dtype.kind == "O" for array in shared.values()) or len(axes.inputs) + len(shared) < len(tensors):
        return None
    return Sample({name: array.shape for name, array in row.items()}, shared)


def measure(model: LoadedModel, axes: Axes | None, sample: Sample | None = None, most: int = 0) -> dict[int, float]:
    """Seconds of a run by batch size: the median of a few, on zeros. Without a batch (`axes`), of one; `most` bounds the size.

    Empty where the model's sizes are known neither by its file nor by a `sample`, or zeros are nothing it can run on.
    """
    seconds: dict[int, float] = {}
    for size in SIZES if axes else SIZES[:1]:
        if most and size > most:
            break
        tensors = _zeros(model, axes, sample, size)
        if tensors is None:
            break
        try:
            seconds[size] = _median_s(model, tensors)
        except EdgeError:
            break  # it runs no larger ones
        if seconds[size] > _LONGEST_S or (size > 2 and _gains_nothing(seconds, size)):
            break
    if len(seconds) > 1 and (one := _zeros(model, axes, sample, 1)) is not None:
        model.infer(one)  # a small run after the large ones gives their memory back
    return seconds


def _gains_nothing(seconds: dict[int, float], size: int) -> bool:
    """Two doublings in a row without a gain: a single one may be the noise of other work."""
    return all(seconds[one] >= _NO_GAIN * seconds[one // 2] for one in (size, size // 2))


def _zeros(model: LoadedModel, axes: Axes | None, sample: Sample | None, rows: int) -> dict[str, Array] | None:
    tensors: dict[str, Array] = {}
    for spec in model.inputs:
        shape = list(sample.sizes[spec.name] if sample else spec.shape)
        if axes and spec.name in axes.inputs:
            shape[axes.inputs[spec.name]] = rows
        elif axes and not sample:
            return None  # what has no batch has a meaning
        if spec.any_rank or -1 in shape or prod(shape) > _MAX_ELEMENTS or spec.datatype == "BYTES":
            return None
        tensors[spec.name] = np.zeros(shape, DATATYPES[spec.datatype])
    return {**tensors, **sample.shared} if sample else tensors


def _median_s(model: LoadedModel, tensors: dict[str, Array]) -> float:
    taken: list[float] = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        model.infer(tensors)
        taken.append(time.perf_counter() - began)
        if sum(taken) > _LONGEST_S:
            break
    return sorted(taken)[len(taken) // 2]
