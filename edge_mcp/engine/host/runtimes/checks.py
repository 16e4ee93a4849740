"""What both runtimes check before native code sees a tensor, and how they word what native code says."""

from collections.abc import Mapping, Sequence

from edge_mcp.engine.host.runtimes.base import DATATYPES, NAMES, Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError

_MAX_REASON = 300
_MAX_METADATA = 256 * 1024


def check_tensors(specs: Sequence[TensorSpec], tensors: Mapping[str, Array]) -> None:
    """Names, dtypes and shapes against the declared inputs (-1: any size). Raises: ArgumentError."""
    names = [spec.name for spec in specs]
    if set(tensors) != set(names):
        raise ArgumentError(f"the model's inputs are {', '.join(names)}, not {', '.join(tensors) or 'none'}")
    for spec in specs:
        array = tensors[spec.name]
        if array.dtype != DATATYPES[spec.datatype]:
            raise ArgumentError(f"input {spec.name!r} is {spec.datatype}, not {NAMES.get(array.dtype, str(array.dtype))}")
        if not fits(spec.shape, array.shape):
            raise ArgumentError(
                f"input {spec.name!r} has shape {list(spec.shape)}, not {list(array.shape)}", "-1 stands for any size"
            )


def fits(declared: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a tensor of `shape` is one of the `declared` shape; -1 on either side stands for any size."""
    return len(declared) == len(shape) and all(
        -1 in (one, other) or one == other for one, other in zip(declared, shape, strict=True)
    )


def has_dynamic_batch(specs: Sequence[TensorSpec]) -> bool:
    """Whether every tensor's first dimension is of any size."""
    return all(spec.shape[:1] == (-1,) for spec in specs)


def bounded_metadata(found: Mapping[str, str]) -> dict[str, str]:
    """What is not empty, in the order found, up to 256 KiB in all: labels of a thousand classes have 20."""
    kept: dict[str, str] = {}
    room = _MAX_METADATA
    for name, value in found.items():
        size = len(name.encode()) + len(value.encode())
        if value and size <= room:
            kept[name] = value
            room -= size
    return kept


def one_line(error: BaseException) -> str:
    """An exception's reason, shortened to one line."""
    text = " ".join(str(error).split()).rstrip(". ") or type(error).__name__
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "…"
