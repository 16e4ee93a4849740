"""A model as it is served: arguments in, results out, one batch at a time."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.engine.host.batches import Batches, Report, declares_batch
from edge_mcp.engine.host.decoders.base import Decoder, Result
from edge_mcp.engine.host.jobs import Job
from edge_mcp.engine.host.modalities.base import Modality
from edge_mcp.engine.host.quantized import RealValues
from edge_mcp.engine.host.runtimes.base import LoadedModel, RuntimeOptions
from edge_mcp.engine.host.validate import validate
from edge_mcp.engine.host.warm_up import warm_up
from edge_mcp.engine.messages import Described, Item, ModelSpec, Outcome, Signature
from edge_mcp.engine.naming import argument_names
from edge_mcp.errors import ArgumentError, EdgeError, ModelError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.manifest import Manifest

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
_PACKAGES = {"PIL": "Pillow", "ai_edge_litert": "ai-edge-litert"}


def describe(path: Path, signature: str = "") -> Described:
    """Load a model file just to read its signature, of several that of this name. Raises: ModelError."""
    model = _load_file(path, RuntimeOptions(signature=signature))
    try:
        known = Signature(tuple(model.inputs), tuple(model.outputs))
        return Described(known, _digest(path), dict(model.metadata), tuple(model.signatures))
    finally:
        model.close()


def import_parts(manifest: Manifest) -> None:
    """Import what the model will need, so that the memory of packages is not counted as the model's. Raises: ModelError."""
    targets = (
        _RUNTIMES.get(Path(manifest.model.file).suffix),
        _MODALITIES.get(_tag(manifest.input)),
        _DECODERS.get(_tag(manifest.output)),
    )
    for target in targets:
        if target is not None:
            _resolve(target)


class ServedModel:
    """A loaded model between its modality and its decoder; several lanes may run it at once."""

    def __init__(
        self,
        model: LoadedModel,
        modality: Modality,
        decoder: Decoder,
        schema: Mapping[str, Any],
        batches: Batches | None = None,
    ) -> None:
        self._model = model
        self._batches = batches or Batches(model, declares_batch(model))
        self._modality = modality
        self._decoder = decoder
        self._schema = schema
        # A tensor may also go by the model's own name for it, where hosts would not take that for an argument's.
        names = zip(model.inputs, argument_names(model.inputs), strict=True)
        known = schema.get("properties", {})
        self._own_names = {spec.name: name for spec, name in names if name in known and spec.name not in known}

    @classmethod
    def load(cls, spec: ModelSpec) -> "ServedModel":
        """Verify, load and warm up. Raises: ModelError."""
        manifest, folder = spec.manifest, Path(spec.folder)
        path = folder / manifest.model.file
        if manifest.model.sha256:
            _verify(path, manifest.model.sha256)
        model = _load_file(path, RuntimeOptions(manifest.resources.threads, manifest.model.signature))
        try:
            _check_inputs(spec, model)
            if not isinstance(manifest.input, TensorInput):
                model = RealValues(model)
            modality = _resolve(_MODALITIES[_tag(manifest.input)])(manifest.input, model.inputs, folder)
            decoder = _resolve(_DECODERS[_tag(manifest.output)])(manifest, model.outputs, folder)
            limit = manifest.scheduling.max_batch_size
            batches = Batches(model, warm_up(model, declares_batch(model, limit)), limit)
        except EdgeError as error:
            model.close()
            raise ModelError(f"{manifest.model.name}: {error.message}", error.hint) from error
        return cls(model, modality, decoder, spec.schema, batches)

    def run(
        self, items: Sequence[Item], stage: Callable[[str], None], report: Report = lambda done, total: None
    ) -> tuple[list[Outcome], float]:
        """The outcome of each item in order, and the runtime's seconds for all; an item's failure is its own outcome.

        `report` is told how far the run of an item of more than `CHUNK` rows is.
        """
        stage("decoding")
        jobs = [Job(item) for item in items]
        for job in jobs:
            job.attempt(self._prepare)
        stage("running")
        self._batches.run(jobs, report)
        stage("encoding")
        for job in jobs:
            job.attempt(self._encode)
        return [job.outcome for job in jobs], sum(job.seconds for job in jobs)

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        self._model.close()

    def _prepare(self, job: Job) -> None:
        if job.item.encoding != "json":
            raise ArgumentError(f"arguments encoded as {job.item.encoding!r} are not understood", "Send JSON")
        try:
            arguments = msgspec.json.decode(job.item.arguments or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArgumentError(f"the arguments are not valid JSON: {error}") from error
        if self._own_names and isinstance(arguments, dict):
            arguments = {self._own_names.get(name, name): value for name, value in arguments.items()}
        job.arguments = validate(self._schema, arguments)
        job.prepared = self._modality.prepare(job.arguments, [Path(root) for root in job.item.roots])

    def _encode(self, job: Job) -> None:
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
    then, now = list(spec.schema.get("required", ())), list(argument_names(model.inputs))
    if set(then) != set(now):
        raise ModelError(
            f"{spec.manifest.model.file} has other inputs now ({', '.join(now)[:500]}) than when the server started "
            f"({', '.join(then)[:500]})",
            "Restart edge-mcp",
        )
