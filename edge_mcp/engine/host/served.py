"""A model as it is served: arguments in, results out, one batch at a time."""

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_mcp.engine.host.decoders.base import Decoder, Result
from edge_mcp.engine.host.modalities.base import Modality, Prepared
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel, RuntimeOptions
from edge_mcp.engine.host.validate import validate
from edge_mcp.engine.messages import Described, Item, ModelSpec, Outcome, Signature
from edge_mcp.errors import ArgumentError, EdgeError, ModelError
from edge_mcp.repository.inputs import TensorInput

logger = logging.getLogger(__name__)

# What a model does not need is never imported: neither the other runtime, nor Pillow.
_HOST = "edge_mcp.engine.host."
_RUNTIMES = {
    ".onnx": "runtimes.onnx:OnnxRuntime",
    ".tflite": "runtimes.litert:LitertRuntime",
}
_MODALITIES = {
    "image": "modalities.image:ImageModality",
    "text": "modalities.text:TextModality",
    "bytes": "modalities.bytes:BytesModality",
    "tensor": "modalities.tensor:TensorModality",
}
_DECODERS = {
    "ssd": "decoders.ssd:SsdDecoder",
    "blazeface": "decoders.blazeface:BlazefaceDecoder",
    "softmax": "decoders.softmax:SoftmaxDecoder",
    "raw": "decoders.raw:RawDecoder",
}
CHUNK = 64
"""Rows of one item's batch that run at once: more buys nothing, and a long run can tell how far it is."""

Report = Callable[[int, int], None]
_PACKAGES = {"PIL": "Pillow", "ai_edge_litert": "ai-edge-litert"}


def describe(path: Path) -> Described:
    """Load a model file just to read its signature. Raises: ModelError."""
    model = _load_file(path, RuntimeOptions())
    try:
        return Described(Signature(tuple(model.inputs), tuple(model.outputs)), _digest(path))
    finally:
        model.close()


@dataclass(slots=True)
class _Job:
    """One item on its way through a run; `error` ends it."""

    item: Item
    arguments: dict[str, Any] = field(default_factory=dict)
    prepared: Prepared = field(default_factory=lambda: Prepared({}))
    outputs: Mapping[str, Array] = field(default_factory=dict)
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)

    def attempt(self, step: Callable[["_Job"], None]) -> None:
        """Do `step` unless an earlier one failed; its failure becomes this item's outcome."""
        if self.outcome.error:
            return
        try:
            step(self)
        except EdgeError as error:
            self.outcome = Outcome(error=str(error))
        except MemoryError:
            self.outcome = Outcome(error="the device has not enough free memory for this. Try a smaller input, or again later")
        except Exception:
            logger.exception("a call failed unexpectedly")
            self.outcome = Outcome(error="internal error in the engine. The server's log has the details")


class ServedModel:
    """A loaded model between its modality and its decoder; several lanes may run it at once."""

    def __init__(self, model: LoadedModel, modality: Modality, decoder: Decoder, schema: Mapping[str, Any]) -> None:
        self._model = model
        self._modality = modality
        self._decoder = decoder
        self._schema = schema

    @classmethod
    def load(cls, spec: ModelSpec) -> "ServedModel":
        """Verify, load and warm up. Raises: ModelError."""
        manifest, folder = spec.manifest, Path(spec.folder)
        path = folder / manifest.model.file
        if manifest.model.sha256:
            _verify(path, manifest.model.sha256)
        model = _load_file(path, RuntimeOptions(manifest.resources.threads))
        try:
            _check_inputs(spec, model)
            modality = _resolve(_MODALITIES[_tag(manifest.input)])(manifest.input, model.inputs, folder)
            decoder = _resolve(_DECODERS[_tag(manifest.output)])(manifest, model.outputs, folder)
            _warm_up(model)
        except EdgeError as error:
            model.close()
            raise ModelError(f"{manifest.model.name}: {error.message}", error.hint) from error
        return cls(model, modality, decoder, spec.schema)

    def run(
        self, items: Sequence[Item], stage: Callable[[str], None], report: Report = lambda done, total: None
    ) -> tuple[list[Outcome], float]:
        """The outcome of each item in order, and the runtime's seconds for all; an item's failure is its own outcome.

        `report` is told how far the run of an item of more than `CHUNK` rows is.
        """
        stage("decoding")
        jobs = [_Job(item) for item in items]
        for job in jobs:
            job.attempt(self._prepare)
        stage("running")
        for group in self._groups([job for job in jobs if job.prepared.tensors]):
            self._infer(group, report)
        stage("encoding")
        for job in jobs:
            job.attempt(self._encode)
        return [job.outcome for job in jobs], sum(job.seconds for job in jobs)

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        self._model.close()

    def _prepare(self, job: _Job) -> None:
        if job.item.encoding != "json":
            raise ArgumentError(f"arguments encoded as {job.item.encoding!r} are not understood", "Send JSON")
        try:
            arguments = msgspec.json.decode(job.item.arguments or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArgumentError(f"the arguments are not valid JSON: {error}") from error
        job.arguments = validate(self._schema, arguments)
        job.prepared = self._modality.prepare(job.arguments, [Path(root) for root in job.item.roots])

    def _groups(self, jobs: Sequence[_Job]) -> list[list[_Job]]:
        """Jobs that can run as one batch; each alone unless the file declares a dynamic batch."""
        if not self._model.dynamic_batch:
            return [[job] for job in jobs]
        groups: dict[Any, list[_Job]] = {}
        for job in jobs:
            shapes = tuple((name, array.shape[1:]) for name, array in sorted(job.prepared.tensors.items()))
            groups.setdefault(shapes, []).append(job)
        return list(groups.values())

    def _infer(self, group: Sequence[_Job], report: Report) -> None:
        if len(group) > 1 and self._infer_batch(group):
            return
        for job in group:
            job.attempt(partial(self._infer_one, report))

    def _infer_one(self, report: Report, job: _Job) -> None:
        began = time.perf_counter()
        job.outputs = self._infer_rows(job.prepared.tensors, report)
        job.seconds = time.perf_counter() - began

    def _infer_rows(self, tensors: Mapping[str, Array], report: Report) -> Mapping[str, Array]:
        """Run once; or, where the first dimension is a batch of many rows, in chunks one after the other."""
        rows = {len(array) for array in tensors.values()} if self._model.dynamic_batch else set()
        total = rows.pop() if len(rows) == 1 else 0
        if total <= CHUNK:
            return self._model.infer(tensors)
        parts: list[Mapping[str, Array]] = []
        for start in range(0, total, CHUNK):
            end = min(start + CHUNK, total)
            part = self._model.infer({name: array[start:end] for name, array in tensors.items()})
            if any(array.ndim == 0 or len(array) != end - start for array in part.values()):
                return self._model.infer(tensors)  # the first dimension is no batch after all
            parts.append(part)
            report(end, total)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _infer_batch(self, group: Sequence[_Job]) -> bool:
        """Run a group as one; False when that fails, so that each can fail or succeed on its own."""
        tensors = [job.prepared.tensors for job in group]
        rows = [{len(array) for array in item.values()} for item in tensors]
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
        if any(array.ndim == 0 or len(array) != ends[-1] for array in outputs.values()):
            return False  # the first dimension is no batch after all
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        for index, job in enumerate(group):
            job.outputs = {name: split[index] for name, split in parts.items()}
            job.seconds = seconds
        return True

    def _encode(self, job: _Job) -> None:
        result = self._decoder.decode(job.outputs, job.prepared, job.arguments)
        job.outcome = _outcome(result, job.seconds)


def _outcome(result: Result, seconds: float) -> Outcome:
    structured = msgspec.json.encode({**result.structured, "inference_ms": round(seconds * 1000, 3)})
    content = [{"type": "text", "text": structured.decode()}]
    if result.picture is not None:
        content.append({"type": "image", "data": base64.b64encode(result.picture).decode(), "mimeType": "image/png"})
    return Outcome(msgspec.json.encode(content), structured)


def _load_file(path: Path, options: RuntimeOptions) -> LoadedModel:
    if path.suffix not in _RUNTIMES:
        raise ModelError(f"{path.name}: no runtime for files that end in {path.suffix!r}", f"Known: {', '.join(_RUNTIMES)}")
    if not path.is_file():
        raise ModelError(f"{path.name} is not there", f"Put it into {path.parent}")
    model: LoadedModel = _resolve(_RUNTIMES[path.suffix])().load(path, options)
    return model


def _resolve(target: str) -> Any:
    """ "module:Class" of this package. Raises: ModelError when a package that it needs is not installed."""
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(_HOST + module), name)
    except ModuleNotFoundError as error:
        top = (error.name or "").partition(".")[0]
        raise ModelError(
            f"the package {_PACKAGES.get(top, top)} is not installed", "Run scripts/setup, or pip install it"
        ) from error


def _tag(section: msgspec.Struct) -> str:
    return str(section.__struct_config__.tag)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error


def _verify(path: Path, expected: str) -> None:
    actual = _digest(path)
    if actual != expected:
        raise ModelError(
            f"{path.name} has the SHA-256 {actual}, but model.toml says {expected}",
            "Restore the file, or write the new digest into model.toml if the change is yours",
        )


def _check_inputs(spec: ModelSpec, model: LoadedModel) -> None:
    """A tensor tool has an argument for each input. Raises: ModelError when the file was replaced since the tool was made."""
    if not isinstance(spec.manifest.input, TensorInput):
        return
    then, now = list(spec.schema.get("required", ())), [one.name for one in model.inputs]
    if set(then) != set(now):
        raise ModelError(
            f"{spec.manifest.model.file} has other inputs now ({', '.join(now)}) than when the server started "
            f"({', '.join(then)})",
            "Restart edge-mcp",
        )


def _warm_up(model: LoadedModel) -> None:
    """One run on zeros: a first run allocates, and a model that cannot run at all is found now."""
    shapes = [(1, *spec.shape[1:]) if model.dynamic_batch else spec.shape for spec in model.inputs]
    if any(-1 in shape for shape in shapes) or any(spec.datatype == "BYTES" for spec in model.inputs):
        return
    model.infer(
        {spec.name: np.zeros(shape, DATATYPES[spec.datatype]) for spec, shape in zip(model.inputs, shapes, strict=True)}
    )
