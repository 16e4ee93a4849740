"""A tool of two models: the first finds boxes in a picture, the second says something of what is in each."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

from edge_mcp.engine.host.batches import CHUNK, Report
from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.decoders.reading import in_reading_order
from edge_mcp.engine.host.jobs import Job
from edge_mcp.engine.host.modalities.image import ImageModality, Picture, read_picture, thumbnail, white_picture
from edge_mcp.engine.host.modalities.placement import Box, place
from edge_mcp.engine.host.parts import Part, load_part
from edge_mcp.engine.host.served import decoded, encoded
from edge_mcp.engine.host.validate import validate
from edge_mcp.engine.messages import Item, ModelSpec, Outcome
from edge_mcp.errors import EdgeError, ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import CtcOutput, SoftmaxOutput

Region = dict[str, Any]

_FOUND = {"ssd": "detections", "blazeface": "faces", "text_boxes": "regions"}  # where a decoder's result has its boxes
# Values of pixels that run at once: small parts are up to a fifth faster together, parts above this slower (their activations
# leave the processor's cache), and the memory that a run needs grows with them.
_CHUNK_VALUES = 128 * 1024
_WARM_UP_SIZE = (640, 480)  # of a small camera's picture


class Pipeline:
    """Two loaded models that are served as one; see ServedModel for the interface.

    Parts are cut out of the picture as it came, not as the first model saw it. Only parts that are of one size as tensors run
    together, so that what is said of one does not depend on what else is in the picture.
    """

    def __init__(self, manifest: Manifest, parts: Sequence[Part], schema: Mapping[str, Any]) -> None:
        """Raises: ModelError when the manifest has no two steps on pictures."""
        self._first, self._second = parts
        self._steps = manifest.parts
        self._margin = manifest.steps[1].margin
        self._schema = schema
        finder, reader, picture = self._first.modality, self._second.modality, self._steps[1].input
        if not (isinstance(finder, ImageModality) and isinstance(reader, ImageModality) and isinstance(picture, ImageInput)):
            raise ModelError(f'{manifest.model.name}: both steps need input.kind = "image"')
        self._finder, self._reader, self._part_input = finder, reader, picture

    @classmethod
    def load(cls, spec: ModelSpec) -> "Pipeline":
        """Verify, load and warm up both models. Raises: ModelError."""
        parts: list[Part] = []
        try:
            for step in spec.manifest.parts:
                parts.append(load_part(step, Path(spec.folder)))  # noqa: PERF401 - those that are loaded have to be closed
            self = cls(spec.manifest, parts, spec.schema)
            self._warm_up()
        except EdgeError:
            for part in parts:
                part.model.close()
            raise
        return self

    def run(
        self, items: Sequence[Item], stage: Callable[[str], None], report: Report = lambda done, total: None
    ) -> tuple[list[Outcome], float]:
        """The outcome of each item in order, and the runtimes' seconds for all; an item's failure is its own outcome.

        Items run one after the other: a picture may be large, and one is held at a time. `report` is told how many parts of it
        are done.
        """
        jobs = [Job(item) for item in items]
        for job in jobs:
            job.attempt(partial(self._run, stage, report))
        return [job.outcome for job in jobs], sum(job.seconds for job in jobs)

    def measure(self, most: int = 0) -> dict[int, float]:
        """Nothing: what it takes hangs on what is in the picture."""
        return {}

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        self._first.model.close()
        self._second.model.close()

    def _warm_up(self) -> None:
        """Each model once on a picture of a size that is to be expected: what that allocates belongs to what a load takes."""
        picture = white_picture(_WARM_UP_SIZE)
        for part, modality in ((self._first, self._finder), (self._second, self._reader)):
            part.model.infer(modality.prepare_part(picture).tensors)

    def _run(self, stage: Callable[[str], None], report: Report, job: Job) -> None:
        stage("decoding")
        job.arguments = validate(self._schema, decoded(job.item))
        picture = read_picture(job.arguments["image"], [Path(root) for root in job.item.roots])
        stage("running")
        regions = self._find(picture, job)
        said = self._look_at(picture, regions, job, report)
        if job.outcome.error:
            return
        stage("encoding")
        answer = self._answer([(region, said[index]) for index, region in enumerate(regions)])
        image = {"width": picture.width, "height": picture.height}
        drawn = self._drawn(picture, answer) if job.arguments["annotate"] else None
        job.outcome = encoded(Result({**answer, "image": image}, drawn), job.seconds, job.item.encoding)

    def _find(self, picture: Picture, job: Job) -> list[Region]:
        prepared = self._finder.prepare_part(picture)
        began = time.perf_counter()
        outputs = self._first.model.infer(prepared.tensors)
        job.seconds += time.perf_counter() - began
        found = self._first.decoder.decode(outputs, prepared, self._limits(0, job.arguments)).structured
        return list(found[_FOUND[str(self._steps[0].output.__struct_config__.tag)]])

    def _look_at(self, picture: Picture, regions: Sequence[Region], job: Job, report: Report) -> dict[int, dict[str, Any]]:
        """What the second model says of each region, by its index. A failure becomes the outcome of `job`."""
        boxes = [self._grown(region["box"], picture.size) for region in regions]
        sizes = [place(self._part_input, picture.size, box).resized for box in boxes]
        limits = self._limits(1, job.arguments)
        said: dict[int, dict[str, Any]] = {}
        for chunk in _chunks(sizes):
            crops = [Job(job.item, prepared=self._reader.prepare_part(picture, boxes[index])) for index in chunk]
            self._second.batches.run(crops, lambda done, total: None)
            job.seconds += sum(crop.seconds for crop in crops)
            if failed := next((crop.outcome for crop in crops if crop.outcome.error), None):
                job.outcome = failed
                return {}
            for index, crop in zip(chunk, crops, strict=True):
                said[index] = self._second.decoder.decode(crop.outputs, crop.prepared, limits).structured
            report(len(said), len(regions))
        return said

    def _limits(self, step: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The decoder's arguments: those of the call for what it scores and finds, else the manifest's."""
        output = self._steps[step].output
        of_call = step == (1 if isinstance(self._steps[1].output, CtcOutput) else 0)
        own = {"threshold": getattr(output, "threshold", 0.0), "max_results": getattr(output, "max_results", 0)}
        if of_call:
            own["threshold"] = arguments["threshold"]
        if step == 0:
            own["max_results"] = arguments["max_results"]
        return own

    def _grown(self, box: Mapping[str, float], size: tuple[int, int]) -> Box:
        """A box with its margin, within the picture, and a pixel each way at least."""
        margin = self._margin * min(box["x_max"] - box["x_min"], box["y_max"] - box["y_min"])
        left, right = _clipped(box["x_min"] - margin, box["x_max"] + margin, size[0])
        top, bottom = _clipped(box["y_min"] - margin, box["y_max"] + margin, size[1])
        return left, top, right, bottom

    def _answer(self, found: Sequence[tuple[Region, Mapping[str, Any]]]) -> dict[str, Any]:
        output = self._steps[1].output
        if isinstance(output, CtcOutput):
            read = [{"text": said["text"].strip(), **region, "score": said["score"]} for region, said in found]
            rows = in_reading_order([line for line in read if line["text"]])
            text = "\n".join(" ".join(line["text"] for line in row) for row in rows)
            return {"text": text, "lines": list(chain.from_iterable(rows))}
        if isinstance(output, SoftmaxOutput):
            return {"regions": [{**region, "class": said["label"], "classes": said["labels"]} for region, said in found]}
        return {"regions": [{**region, "outputs": said["outputs"]} for region, said in found]}

    def _drawn(self, picture: Picture, answer: Mapping[str, Any]) -> bytes:
        from edge_mcp.engine.host.decoders.annotate import Mark, annotate  # its fonts are needed for drawing alone

        # A line's text would hide the line above: it gets its number.
        names = [str(number) for number, _ in enumerate(answer.get("lines", ()), 1)] or map(_named, answer.get("regions", ()))
        found = answer.get("lines") or answer.get("regions") or ()
        marks = [Mark(one["box"], name, one["score"]) for one, name in zip(found, names, strict=True)]
        return annotate(thumbnail(picture), picture.size, marks)


def _chunks(sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Indices of what runs at once: of one size, and not too many."""
    chunk: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda one: sizes[one]):
        most = min(CHUNK, max(1, _CHUNK_VALUES // (3 * prod(sizes[index]))))
        if chunk and (sizes[chunk[0]] != sizes[index] or len(chunk) == most):
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk


def _clipped(low: float, high: float, size: int) -> tuple[float, float]:
    low = min(size - 1.0, max(0.0, low))  # in this order, what is no number becomes a bound
    return low, max(low + 1.0, min(float(size), high))


def _named(one: Mapping[str, Any]) -> str:
    return str(next((one[key] for key in ("class", "label") if key in one), "region"))
