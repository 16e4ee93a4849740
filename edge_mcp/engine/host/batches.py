"""Runs jobs on a loaded model: several as one batch where the model has one, many rows in chunks."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from edge_mcp.engine.host.jobs import Job
from edge_mcp.engine.host.pace import Sample, measure, sample_of
from edge_mcp.engine.host.runtimes.axes import Axes, first_axes, part
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel, Value
from edge_mcp.engine.host.warm_up import Tried, rows_are_apart
from edge_mcp.errors import EdgeError

logger = logging.getLogger(__name__)

CHUNK = 64
"""Rows of one item's batch that run at once: more buys nothing, and a long run can tell how far it is."""

Report = Callable[[int, int], None]


class Runs(Protocol):
    """How the jobs of one model are run."""

    def run(self, jobs: Sequence[Job], report: Report) -> None:
        """Do what is between preparing and decoding; a job's failure is its own outcome."""
        ...

    def pace(self, most: int = 0) -> dict[int, float]:
        """Seconds of the runtime by batch size, up to `most` if that is above 0; none where nothing can be said."""
        ...

    def close(self) -> None:
        """Give the model's memory back; no run may be in progress."""
        ...


def ways(model: LoadedModel, max_batch_size: int = 0) -> Sequence[Axes]:
    """Where the file says that there may be a batch; or, with `max_batch_size`, where it says nothing against one: the first
    dimension of every input is of any size, and that of no output of a certain one.

    A file of a fixed size is never resized: some accept that, and answer nonsense.
    """
    if model.batch_axes or not max_batch_size or not model.inputs:
        return model.batch_axes if model.inputs else ()
    open_in = all(spec.shape[:1] == (-1,) for spec in model.inputs)
    open_out = all(spec.datatype in DATATYPES and (spec.any_rank or spec.shape[:1] == (-1,)) for spec in model.outputs)
    return [first_axes(model.inputs, model.outputs)] if open_in and open_out else ()


class Batches:
    """The runs of one model, whose batch is where it was `tried`; without one each job runs alone, as it is.

    Where no first run could tell, the first call with its own sizes does. `max_batch_size` above 0 bounds the rows that run at
    once.
    """

    def __init__(self, model: LoadedModel, tried: Tried, max_batch_size: int = 0) -> None:
        self._model = model
        self._axes, self._open = tried
        self._limit = max_batch_size
        self._chunk = min(CHUNK, max_batch_size) if max_batch_size else CHUNK
        self._sample: Sample | None = None

    def pace(self, most: int = 0) -> dict[int, float]:
        """Seconds of a run by batch size; see `pace.measure`."""
        return measure(self._model, self._axes, self._sample, min(most, self._limit) or most or self._limit)

    def run(self, jobs: Sequence[Job], report: Report) -> None:
        """Fill in `outputs` and `seconds` of each; a job's failure is its own outcome."""
        for group in self._groups([job for job in jobs if job.prepared.tensors or not self._model.inputs]):
            if len(group) == 1 or not self._together(group):
                for job in group:
                    job.attempt(partial(self._alone, report))

    def close(self) -> None:
        """See Runs."""
        self._model.close()

    def _groups(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Jobs that can run as one batch; each alone unless there is a batch."""
        if len(jobs) == 1 or self._axes is None:
            return [[job] for job in jobs]
        alike: dict[Any, list[Job]] = {}
        for index, job in enumerate(jobs):
            tensors = job.prepared.tensors
            key = _kind(self._axes, tensors) if _rows(self._axes, tensors) else index
            alike.setdefault(key, []).append(job)
        return [group for similar in alike.values() for group in self._parted(self._axes, similar)]

    def _parted(self, axes: Axes, jobs: Sequence[Job]) -> list[list[Job]]:
        """Groups of at most the rows that may run at once, in order; a job that has more is a group of its own."""
        if not self._limit:
            return [list(jobs)]
        groups: list[list[Job]] = []
        room = 0
        for job in jobs:
            rows = _rows(axes, job.prepared.tensors)
            if not groups or rows > room:
                groups.append([])
                room = self._limit
            groups[-1].append(job)
            room -= rows
        return groups

    def _alone(self, report: Report, job: Job) -> None:
        began = time.perf_counter()
        job.outputs = self._in_chunks(job.prepared.tensors, report)
        job.seconds = time.perf_counter() - began
        if self._sample is None:
            self._learn(job.prepared.tensors)

    def _learn(self, tensors: Mapping[str, Array]) -> None:
        """From a call that ran well: whether there is a batch after all, and what one row of it is."""
        for axes in (self._axes,) if self._axes is not None else self._open:
            sample = sample_of(axes, tensors)
            try:
                if sample and (axes is self._axes or rows_are_apart(self._model, axes, sample.sizes, sample.shared)):
                    self._sample, self._axes = sample, axes
                    break
            except (EdgeError, MemoryError) as error:
                logger.info("two rows do not run as one: %s", error)
        self._open = ()

    def _in_chunks(self, tensors: Mapping[str, Array], report: Report) -> Mapping[str, Value]:
        """Run once; or, where there is a batch of many rows, in chunks one after the other."""
        axes = self._axes
        total = _rows(axes, tensors) if axes is not None else 0
        if axes is None or total <= self._chunk:
            return self._model.infer(tensors)
        parts: list[Mapping[str, Value]] = []
        for start in range(0, total, self._chunk):
            end = min(start + self._chunk, total)
            outputs = self._model.infer(_slice(axes.inputs, tensors, start, end))
            if not _has_rows(axes, outputs, end - start):
                return self._model.infer(tensors)  # it is no batch after all
            parts.append(outputs)
            report(end, total)
        return {name: np.concatenate([one[name] for one in parts], axes.outputs[name]) for name in parts[0]}

    def _together(self, group: Sequence[Job]) -> bool:
        """Run a group as one; False when that fails, so that each can fail or succeed on its own."""
        axes = self._axes
        assert axes is not None, "groups are made with a batch only"  # noqa: S101
        tensors = [job.prepared.tensors for job in group]
        began = time.perf_counter()
        try:
            outputs = self._model.infer(_joined(axes, tensors))
        except (EdgeError, MemoryError) as error:
            logger.info("a batch of %d failed, its items are run one by one: %s", len(group), error)
            return False
        seconds = (time.perf_counter() - began) / len(group)
        ends = list(accumulate(_rows(axes, item) for item in tensors))
        if not _has_rows(axes, outputs, ends[-1]):
            return False  # it is no batch after all
        for job, start, end in zip(group, [0, *ends], ends, strict=False):
            job.outputs = _slice(axes.outputs, outputs, start, end)
            job.seconds = seconds
        return True


def _rows(axes: Axes, tensors: Mapping[str, Array]) -> int:
    """How many rows a call has; 0 where its inputs do not say the same."""
    sizes = {tensors[name].shape[axis : axis + 1] for name, axis in axes.inputs.items() if name in tensors}
    return sum(sizes.pop()) if len(sizes) == 1 else 0


def _kind(axes: Axes, tensors: Mapping[str, Array]) -> Any:
    """What calls have in common that can run as one: what their rows look like, and all that the rows share."""
    kind: list[Any] = []
    for name, array in tensors.items():
        axis = axes.inputs.get(name)
        if axis is not None:
            kind.append((name, array.shape[:axis], array.shape[axis + 1 :]))
        else:
            kind.append((name, array.shape, tuple(array.flat) if array.dtype.kind == "O" else array.tobytes()))
    return tuple(kind)


def _joined(axes: Axes, tensors: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {
        name: np.concatenate([item[name] for item in tensors], axes.inputs[name]) if name in axes.inputs else array
        for name, array in tensors[0].items()
    }


def _slice(axes: Mapping[str, int], tensors: Mapping[str, Array], start: int, end: int) -> dict[str, Array]:
    """Some rows; what has none is all rows'."""
    return {name: array[part(axes[name], start, end)] if name in axes else array for name, array in tensors.items()}


def _has_rows(axes: Axes, outputs: Mapping[str, Value], count: int) -> bool:
    return all(
        isinstance(value, np.ndarray) and value.shape[axes.outputs[name] :][:1] == (count,) for name, value in outputs.items()
    )
