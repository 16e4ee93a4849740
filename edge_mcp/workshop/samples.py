"""A folder of samples -> one item each, by the kind of input: pictures, sounds, texts, any files, or arrays of numpy's."""

import base64
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_mcp.engine.host.runtimes.base import DATATYPES, Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError

MAX_SAMPLES = 1000
MAX_BYTES = 64 * 1024 * 1024
MAX_STEPS = 20_000
_SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"),
    "audio": (".wav", ".flac", ".ogg", ".oga"),
    "text": (".txt", ".md"),
}
_ARRAYS = (".npz", ".npy")


class Sample(msgspec.Struct):
    """One file: `arguments` of the tool as JSON, or else `steps`, the tensors of one run after the other."""

    name: str
    arguments: bytes = b""
    steps: list[dict[str, Any]] = []


def read_samples(folder: Path, properties: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> list[Sample]:
    """The samples by name. Raises: ModelError."""
    kind = next(
        (name for name in ("image", "audio", "text", "data") if name in properties and not _takes_tensors(properties)), ""
    )
    suffixes = _SUFFIXES.get(kind, ()) if kind else _ARRAYS
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise ModelError(f"the samples in {folder} cannot be read: {error.strerror}", "Name a folder") from error
    chosen = [path for path in files if not suffixes or path.suffix.lower() in suffixes]
    if not chosen:
        wanted = f"files that end in {', '.join(suffixes)}" if suffixes else "files"
        raise ModelError(f"there are no samples in {folder}", f"Put {wanted} there, as many and as different as possible")
    if len(chosen) > MAX_SAMPLES:
        raise ModelError(f"there are {len(chosen)} samples in {folder}", f"Choose {MAX_SAMPLES} of them")
    return [_of_file(path, kind) if kind else Sample(path.name, steps=_steps(path, inputs)) for path in chosen]


def _takes_tensors(properties: Mapping[str, Any]) -> bool:
    return "encoding" in properties  # which tensor tools have, and no others


def _of_file(path: Path, kind: str) -> Sample:
    content = _content(path)
    if kind == "text":
        return Sample(path.name, msgspec.json.encode({"text": content.decode("utf-8", "replace")}))
    return Sample(path.name, msgspec.json.encode({kind: base64.b64encode(content).decode("ascii")}))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ModelError(f"the sample {path.name} is larger than {MAX_BYTES // 2**20} MiB", "Leave it out")
    return content


def _steps(path: Path, inputs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """The tensors of each run. An array with one dimension more than the input has a step in each of its rows."""
    arrays = _arrays(path, inputs)
    counts = {
        len(arrays[spec.name]) for spec in inputs if spec.name in arrays and arrays[spec.name].ndim == len(spec.shape) + 1
    }
    if len(counts) > 1:
        raise ModelError(f"the sample {path.name} has {' and '.join(map(str, sorted(counts)))} steps", "Give all as many")
    count = counts.pop() if counts else 1
    if count > MAX_STEPS:
        raise ModelError(f"the sample {path.name} has {count} steps", f"Give it at most {MAX_STEPS}")
    return [
        {name: array[step] if _is_sequence(name, array, inputs) else array for name, array in arrays.items()}
        for step in range(count)
    ]


def _is_sequence(name: str, array: Array, inputs: Sequence[TensorSpec]) -> bool:
    return any(spec.name == name and array.ndim == len(spec.shape) + 1 for spec in inputs)


def _arrays(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """By input. Raises: ModelError."""
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"the sample {path.name} is larger than {MAX_BYTES // 2**20} MiB", "Leave it out")
    try:
        loaded = np.load(path, allow_pickle=False)
        found = {inputs[0].name: loaded} if isinstance(loaded, np.ndarray) else _of_archive(path, loaded)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"the sample {path.name} cannot be read: {error}", "Write it with numpy.save or numpy.savez"
        ) from error
    specs = {spec.name: spec for spec in inputs}
    if unknown := [name for name in found if name not in specs]:
        raise ModelError(f"the sample {path.name} has {unknown[0][:60]!r}", f"The model's inputs are {', '.join(specs)}")
    return {name: np.asarray(array, DATATYPES[specs[name].datatype], order="C") for name, array in found.items()}


def _of_archive(path: Path, loaded: Any) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES // 2**20} MiB when unpacked")
    return {name: loaded[name] for name in loaded.files}
