"""Runs jobs on a loaded model: several as one batch where the model has one, many rows in chunks."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from edge_mcp.engine.host.jobs import Job
from edge_mcp.engine.host.pace import measure
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel, Value
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

    def pace(self) -> dict[int, float]:
        """Seconds of the runtime by batch size; none where nothing can be said."""
        ...

    def close(self) -> None:
        """Give the model's memory back; no run may be in progress."""
        ...


def declares_batch(model: LoadedModel, max_batch_size: int = 0) -> bool:
    """Whether the file says that its first dimension is a batch; or, with `max_batch_size`, at least nothing against it: that
    of every input is of any size, and that of no output is a certain one.

    A file of a fixed size is never resized: some accept that, and answer nonsense.
    """
    if model.dynamic_batch or not max_batch_size or not model.inputs:
        return model.dynamic_batch and bool(model.inputs)
    inputs = all(spec.shape[:1] == (-1,) for spec in model.inputs)
    return inputs and all(spec.datatype in DATATYPES and (spec.any_rank or spec.shape[:1] == (-1,)) for spec in model.outputs)


class Batches:
    """The runs of one model; without a `batch` each job runs alone, as it is.

    `max_batch_size` above 0 bounds the rows that run at once.
    """

    def __init__(self, model: LoadedModel, batch: bool, max_batch_size: int = 0) -> None:
        self._model = model
        self._limit = max_batch_size
        self._chunk = min(CHUNK, max_batch_size) if max_batch_size else CHUNK
        self._dynamic = batch

    def pace(self) -> dict[int, float]:
        """Seconds of a run by batch size; see `pace.measure`."""
        return measure(self._model, self._dynamic, self._limit)

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
        if not self._dynamic:
            return [[job] for job in jobs]
        alike: dict[Any, list[Job]] = {}
        for job in jobs:
            shapes = tuple((name, array.shape[1:]) for name, array in sorted(job.prepared.tensors.items()))
            alike.setdefault(shapes, []).append(job)
        return [group for similar in alike.values() for group in self._parted(similar)]

    def _parted(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Groups of at most the rows that may run at once, in order; a job that has more is a group of its own."""
        if not self._limit:
            return [list(jobs)]
        groups: list[list[Job]] = []
        room = 0
        for job in jobs:
            rows = max((len(array) for array in job.prepared.tensors.values() if array.ndim), default=1)
            if rows > room:
                groups.append([])
                room = self._limit
            groups[-1].append(job)
            room -= rows
        return groups

    def _alone(self, report: Report, job: Job) -> None:
        began = time.perf_counter()
        job.outputs = self._in_chunks(job.prepared.tensors, report)
        job.seconds = time.perf_counter() - began

    def _in_chunks(self, tensors: Mapping[str, Array], report: Report) -> Mapping[str, Value]:
        """Run once; or, where the first dimension is a batch of many rows, in chunks one after the other."""
        rows = {len(array) for array in tensors.values()} if self._dynamic else set()
        total = rows.pop() if len(rows) == 1 else 0
        if total <= self._chunk:
            return self._model.infer(tensors)
        parts: list[Mapping[str, Value]] = []
        for start in range(0, total, self._chunk):
            end = min(start + self._chunk, total)
            part = self._model.infer({name: array[start:end] for name, array in tensors.items()})
            if not _has_rows(part, end - start):
                return self._model.infer(tensors)  # the first dimension is no batch after all
            parts.append(part)
            report(end, total)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _together(self, group: Sequence[Job]) -> bool:
        """Run a group as one; False when that fails, so that each can fail or succeed on its own."""
        tensors = [job.prepared.tensors for job in group]
        rows = [{len(array) for array in item.values() if array.ndim} for item in tensors]
        if any(len(counts) != 1 for counts in rows):
            return False
        ends = np.cumsum([next(iter(counts)) for counts in rows])
        began = time.perf_counter()
        try:
            outputs = self._model.infer({name: np.concatenate([item[name] for item in tensors]) for name in tensors[0]})
        except (EdgeError, MemoryError) as error:
            logger.info("a batch of %d failed, its items are run one by one: %s", len(group), error)
            return False
        seconds = (time.perf_counter() - began) / len(group)
        if not _has_rows(outputs, ends[-1]):
            return False  # the first dimension is no batch after all
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        for index, job in enumerate(group):
            job.outputs = {name: split[index] for name, split in parts.items()}
            job.seconds = seconds
        return True


def _has_rows(outputs: Mapping[str, Value], count: int) -> bool:
    return all(isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == count for value in outputs.values())
