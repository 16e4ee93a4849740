"""One model file with all that stands around it: its runtime, its modality, its decoder, and how it takes batches."""

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge_mcp.engine.host.batches import Batches, Runs, ways
from edge_mcp.engine.host.decoders.base import Decoder
from edge_mcp.engine.host.modalities.base import Modality
from edge_mcp.engine.host.quantized import RealValues
from edge_mcp.engine.host.runtimes.base import LoadedModel, RuntimeOptions
from edge_mcp.engine.host.warm_up import warm_up
from edge_mcp.errors import EdgeError, ModelError
from edge_mcp.repository.inputs import AudioInput, TensorInput
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
    "audio": "modalities.audio:AudioModality",
    "tensor": "modalities.tensor:TensorModality",
}
_DECODERS = {
    "ssd": "decoders.ssd:SsdDecoder",
    "blazeface": "decoders.blazeface:BlazefaceDecoder",
    "softmax": "decoders.softmax:SoftmaxDecoder",
    "text_boxes": "decoders.text_boxes:TextBoxesDecoder",
    "ctc": "decoders.ctc:CtcDecoder",
    "speech": "decoders.speech:SpeechDecoder",
    "wake_word": "decoders.wake_word:WakeWordDecoder",
    "raw": "decoders.raw:RawDecoder",
}
_RECURRENT = "recurrent:Recurrent"
_FEATURES = {"samples": "features:Windows", "micro": "micro:MicroFeatures"}
_PACKAGES = {"PIL": "Pillow", "ai_edge_litert": "ai-edge-litert", "pymicro_features": "pymicro-features"}


class Part(NamedTuple):
    """What `load_part` made, warmed up; `batches` runs `model`."""

    model: LoadedModel
    modality: Modality
    decoder: Decoder
    batches: Runs


def import_part(manifest: Manifest) -> None:
    """Import what `load_part` will need. Raises: ModelError."""
    targets = [
        _RUNTIMES.get(Path(manifest.model.file).suffix),
        _MODALITIES.get(_tag(manifest.input)),
        _DECODERS.get(_tag(manifest.output)),
    ]
    if isinstance(manifest.input, AudioInput):
        targets += [_RECURRENT, _FEATURES[manifest.input.features]]
    for target in targets:
        if target is not None:
            _resolve(target)


def load_part(manifest: Manifest, folder: Path, watched: Callable[[LoadedModel], LoadedModel] = lambda model: model) -> Part:
    """Verify, load and warm up the model of a manifest without steps; what runs is the `watched` one. Raises: ModelError."""
    path = folder / manifest.model.file
    if manifest.model.sha256:
        _verify(path, manifest.model.sha256)
    model = load_file(path, RuntimeOptions(manifest.resources.threads, manifest.model.signature))
    try:
        if not isinstance(manifest.input, TensorInput):
            model = RealValues(model)
        model = watched(model)
        modality = _resolve(_MODALITIES[_tag(manifest.input)])(manifest.input, model.inputs, folder)
        decoder = _resolve(_DECODERS[_tag(manifest.output)])(manifest, model.outputs, folder)
        batches = _runs(manifest, model, decoder)
    except EdgeError as error:
        model.close()
        raise ModelError(f"{manifest.model.name}: {error.message}", error.hint) from error
    return Part(model, modality, decoder, batches)


def _runs(manifest: Manifest, model: LoadedModel, decoder: Decoder) -> Runs:
    """Warms the model up. Raises: ModelError."""
    if isinstance(manifest.input, AudioInput):
        runs: Runs = _resolve(_RECURRENT)(model, manifest.input, _resolve(_FEATURES[manifest.input.features]), decoder)
        return runs
    limit = manifest.scheduling.max_batch_size
    return Batches(model, warm_up(model, ways(model, limit)), limit)


def load_file(path: Path, options: RuntimeOptions) -> LoadedModel:
    """Load a model file. Raises: ModelError."""
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


def digest(path: Path) -> str:
    """A file's SHA-256 (hex). Raises: ModelError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error


def _verify(path: Path, expected: str) -> None:
    actual = digest(path)
    if actual != expected:
        raise ModelError(
            f"{path.name} has the SHA-256 {actual}, but model.toml says {expected}",
            "Restore the file, or write the new digest into model.toml if the change is yours",
        )
