"""Files beside the model and tensors within it, looked up by the names that a manifest gives."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import msgspec

from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.host.runtimes.checks import shown
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.bounds import read_bounded

MAX_BYTES = 32 * 1024 * 1024
_MAX_LISTED = 20
_MAX_SHOWN = 80


def read_labels(folder: Path, name: str) -> tuple[str, ...]:
    """A label file: a JSON array of strings (`.json`), or one label a line. Raises: ModelError."""
    content = read_beside(folder, name)
    try:
        if name.endswith(".json"):
            return tuple(msgspec.json.decode(content, type=list[str]))
        return tuple(content.decode("utf-8").rstrip("\n").split("\n"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{name} is not a list of labels: {error}", "Write one label a line, or a JSON array") from error


def read_beside(folder: Path, name: str) -> bytes:
    """A file of the model's folder. Raises: ModelError, saying which files are there."""
    if Path(name).name != name:
        raise ModelError(f"{name!r} is not the name of a file in the model's folder")
    try:
        return read_bounded(folder / name, MAX_BYTES)
    except ValueError as error:
        raise ModelError(f"{name} cannot be read: {error}", "It has to be the file that the manifest means") from error
    except OSError as error:
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise ModelError(f"{name} cannot be read: {error.strerror}", f"In the model's folder: {there}") from error


def float_output(outputs: Sequence[TensorSpec], name: str, shape: Sequence[int]) -> TensorSpec:
    """The float output `name`, of `shape` up to what the file leaves open. Raises: ModelError, saying what is there."""
    there = ", ".join(f"{spec.name[:_MAX_SHOWN]} {spec.datatype} {list(spec.shape)}" for spec in outputs[:_MAX_LISTED])
    found = [spec for spec in outputs if spec.name == name]
    if not found:
        raise ModelError(f"the model has no output {name!r}", f"Its outputs: {there}")
    spec = found[0]
    sizes = [one for one, other in zip(spec.shape, shape, strict=False) if -1 not in (one, other) and one != other]
    if not spec.any_rank and (sizes or len(spec.shape) != len(shape)):
        raise ModelError(f"output {name!r} has shape {list(spec.shape)}, but the manifest makes {list(shape)} of it")
    if not spec.datatype.startswith("FP"):
        raise ModelError(f"output {name!r} is {spec.datatype}", "This decoder needs a float output")
    return spec


def shaped(outputs: Mapping[str, Array], name: str, shape: Sequence[int]) -> Array:
    """The output `name` as `shape`, of which the file may have left a part open. Raises: ModelError where it came otherwise."""
    array = outputs[name]
    if array.size != prod(shape):
        raise ModelError(
            f"output {shown(name)} came with the shape {list(array.shape)}, but the manifest makes {list(shape)} of it"
        )
    return array.reshape(shape)
