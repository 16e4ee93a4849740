"""A model as it is served: arguments in, results out, one batch at a time."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from edge_mcp.engine.host.batches import Report, Runs
from edge_mcp.engine.host.decoders.base import Decoder, Result
from edge_mcp.engine.host.jobs import Job
from edge_mcp.engine.host.modalities.base import Modality
from edge_mcp.engine.host.parts import digest, import_part, load_file, load_part
from edge_mcp.engine.host.runtimes.base import LoadedModel, RuntimeOptions
from edge_mcp.engine.host.validate import validate
from edge_mcp.engine.messages import Described, Item, ModelSpec, Outcome, Signature
from edge_mcp.engine.naming import argument_names
from edge_mcp.errors import ArgumentError, ModelError
from edge_mcp.protocol.codec import Arguments, codec_of
from edge_mcp.protocol.jsonrpc import UNDECODABLE
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.manifest import Manifest


def describe(path: Path, signature: str = "") -> Described:
    """Load a model file just to read its signature, of several that of this name. Raises: ModelError."""
    model = load_file(path, RuntimeOptions(signature=signature))
    try:
        known = Signature(tuple(model.inputs), tuple(model.outputs))
        return Described(known, digest(path), dict(model.metadata), tuple(model.signatures))
    finally:
        model.close()


def import_parts(manifest: Manifest) -> None:
    """Import what the model will need, so that the memory of packages is not counted as the model's. Raises: ModelError."""
    for part in manifest.parts:
        import_part(part)


class ServedModel:
    """A loaded model between its modality and its decoder; several lanes may run it at once."""

    def __init__(
        self,
        model: LoadedModel,
        modality: Modality,
        decoder: Decoder,
        schema: Mapping[str, Any],
        batches: Runs,
    ) -> None:
        self._model = model
        self._batches = batches
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
        part = load_part(spec.manifest, Path(spec.folder))
        try:
            _check_inputs(spec, part.model)
        except ModelError as error:
            part.model.close()
            raise ModelError(f"{spec.manifest.model.name}: {error.message}", error.hint) from error
        return cls(part.model, part.modality, part.decoder, spec.schema, part.batches)

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

    def measure(self, most: int = 0) -> dict[int, float]:
        """Seconds of the runtime by batch size, up to `most` if that is above 0; none where nothing can be said."""
        return self._batches.pace(most)

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        self._batches.close()

    def _prepare(self, job: Job) -> None:
        arguments = decoded(job.item)
        if self._own_names and isinstance(arguments, dict):
            arguments = {self._own_names.get(name, name): value for name, value in arguments.items()}
        job.arguments = validate(self._schema, arguments)
        job.prepared = self._modality.prepare(job.arguments, _paths(job.item.roots))

    def _encode(self, job: Job) -> None:
        result = self._decoder.decode(job.outputs, job.prepared, job.arguments)
        job.outcome = encoded(result, job.seconds, job.item.encoding)


@lru_cache(8)
def _paths(roots: tuple[str, ...]) -> list[Path]:
    return [Path(root) for root in roots]


def decoded(item: Item) -> Any:
    """A call's arguments, not checked yet. Raises: ArgumentError."""
    codec = codec_of(item.encoding)
    try:
        arguments: Any = Arguments(item.arguments, codec).decode(object)
    except UNDECODABLE as error:
        raise ArgumentError(f"the arguments are not valid {codec.title}: {error}") from error
    return {**arguments, **item.attached} if item.attached and isinstance(arguments, dict) else arguments


def encoded(result: Result, seconds: float, encoding: str) -> Outcome:
    """What the caller gets, in the encoding of its arguments; `seconds` is what the runtime took."""
    codec = codec_of(encoding)
    text, structured = codec.told({**result.structured, "inference_ms": round(seconds * 1000, 3)})
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if result.picture is not None:
        content.append({"type": "image", "data": result.picture, "mimeType": "image/png"})
    return Outcome(codec.encode(content), structured)


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
