"""What both runtimes check before native code sees a tensor, and how they word what native code says."""

import math
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edge_mcp.engine.host.runtimes.base import DATATYPES, NAMES, Array
from edge_mcp.engine.messages import Quantization, TensorSpec
from edge_mcp.errors import ArgumentError, ModelError

MAX_TENSORS = 256
MAX_TENSOR_BYTES = 256 * 1024 * 1024
_MAX_DIMENSIONS = 32
_MAX_REASON = 300
_MAX_NAME = 80
_MAX_METADATA = 256 * 1024


def check_signature(file: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """What a file declares must be something that can be served. Raises: ModelError, with the reason."""
    for what, specs in (("inputs", inputs), ("outputs", outputs)):
        if len(specs) > MAX_TENSORS:
            raise ModelError(f"{file} has {len(specs)} {what}", f"At most {MAX_TENSORS} are served")
        for spec in specs:
            # What is of any size is taken as 1: a file may not say how large it gets, but not be too large at its least.
            least = math.prod(max(size, 1) for size in spec.shape) * DATATYPES.get(spec.datatype, DATATYPES["BOOL"]).itemsize
            if least > MAX_TENSOR_BYTES or len(spec.shape) > _MAX_DIMENSIONS:
                size = f"{shown_shape(spec.shape)}, {least / 1024**2:.0f} MiB or more"
                raise ModelError(
                    f"{file}: {what[:-1]} {shown(spec.name)} has shape {size}",
                    f"At most {_MAX_DIMENSIONS} dimensions and {MAX_TENSOR_BYTES // 1024**2} MiB are served",
                )
    if not outputs:
        raise ModelError(f"{file} has no outputs", "A tool has to answer something")


def check_tensors(specs: Sequence[TensorSpec], tensors: Mapping[str, Array]) -> None:
    """Names, dtypes and shapes against the declared inputs (-1: any size). Raises: ArgumentError."""
    names = [spec.name for spec in specs]
    if set(tensors) != set(names):
        raise ArgumentError(
            f"the model's inputs are {', '.join(map(shown, names))}, not {', '.join(map(shown, tensors)) or 'none'}"
        )
    for spec in specs:
        array = tensors[spec.name]
        if array.dtype != DATATYPES[spec.datatype]:
            raise ArgumentError(f"input {shown(spec.name)} is {spec.datatype}, not {NAMES.get(array.dtype, str(array.dtype))}")
        if not takes(spec, array.shape):
            raise ArgumentError(
                f"input {shown(spec.name)} has shape {list(spec.shape)}, not {list(array.shape)}", "-1 stands for any size"
            )


def fits(declared: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a tensor of `shape` is one of the `declared` shape; -1 on either side stands for any size."""
    return len(declared) == len(shape) and all(
        -1 in (one, other) or one == other for one, other in zip(declared, shape, strict=True)
    )


def fitting(quantization: Quantization | None, shape: Sequence[int]) -> Quantization | None:
    """With its `axis` counted from the front; None where it cannot be this shape's."""
    if quantization is None or len(quantization.scale) == 1:
        return quantization
    axis = quantization.axis + len(shape) if quantization.axis < 0 else quantization.axis
    if not 0 <= axis < len(shape) or shape[axis] not in (-1, len(quantization.scale)):
        return None
    return replace(quantization, axis=axis)


def takes(spec: TensorSpec, shape: Sequence[int]) -> bool:
    """Whether a tensor of `shape` can be this input or output."""
    return spec.any_rank or fits(spec.shape, shape)


def shown(name: str) -> str:
    """A tensor's name in quotes, shortened: a file may give it thousands of characters."""
    return repr(name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…")


def shown_shape(shape: Sequence[int]) -> str:
    """A shape, shortened."""
    return str(list(shape)) if len(shape) <= _MAX_DIMENSIONS else f"of {len(shape)} dimensions"


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
