"""One argument per model input, a nested list or `{dtype, shape, data}` -> that tensor."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.payload import decode_base64
from edge_mcp.engine.host.quantized import quantize
from edge_mcp.engine.host.runtimes.base import DATATYPES, NAMES, Array
from edge_mcp.engine.host.runtimes.checks import fits, takes
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.engine.naming import argument_names
from edge_mcp.errors import ArgumentError
from edge_mcp.repository.inputs import TensorInput

_MAX_DIMENSIONS = 16
# OIP's names, and numpy's as in `float32`
_DATATYPES = {**{oip: oip for oip in DATATYPES}, **{str(dtype).upper(): oip for dtype, oip in NAMES.items() if oip != "BYTES"}}


class TensorModality:
    """Takes tensors as they are: no dimension is guessed, no value is cut or wrapped.

    Only reals for an input whose integers stand for reals, floats by their dtype or numbers with fractions, are quantized.
    """

    def __init__(self, config: TensorInput, inputs: Sequence[TensorSpec], folder: Path) -> None:
        # By the argument's name, which the refusals name too
        arguments = argument_names(inputs)
        self._inputs = {spec.name: replace(spec, name=name) for spec, name in zip(inputs, arguments, strict=True)}

    def prepare(self, arguments: Mapping[str, Any], roots: Sequence[Path]) -> Prepared:
        """Tensors of the model's dtypes and shapes; `source` is whether any came as bytes or base64. Raises: ArgumentError."""
        tensors = {name: _tensor(arguments[spec.name], spec) for name, spec in self._inputs.items()}
        return Prepared(tensors, any(_is_binary(arguments[spec.name], spec) for spec in self._inputs.values()))


def _is_binary(value: Any, spec: TensorSpec) -> bool:
    return isinstance(value, dict) and isinstance(value["data"], str | bytes) and spec.datatype != "BYTES"


def _tensor(value: Any, spec: TensorSpec) -> Array:
    if spec.quantization and (datatype := _real_datatype(value)):
        reals = _tensor(value, replace(spec, datatype=datatype, quantization=None))
        if np.isnan(reals).any():
            raise ArgumentError(f"argument {spec.name} has NaN, for which no {spec.datatype} stands")
        return quantize(reals, spec.quantization, spec.datatype)
    if not isinstance(value, dict):
        array = _from_list(value, spec)
    else:
        _check_dtype(value["dtype"], spec)
        array = _from_bytes(value, spec) if _is_binary(value, spec) else _from_list(value["data"], spec)
        array = _reshaped(array, value["shape"], spec)
    if not takes(spec, array.shape):
        wrapped = fits(spec.shape, (1, *array.shape))
        hint = "One more list around it makes it a batch of one" if wrapped else "-1 stands for any size"
        raise ArgumentError(f"argument {spec.name} has shape {list(array.shape)}, but the model takes {list(spec.shape)}", hint)
    return array


def _real_datatype(value: Any) -> str:
    """The float datatype of what are reals, whatever the model takes; "" of integers."""
    if isinstance(value, dict):
        named = _DATATYPES.get(value["dtype"].upper(), "")
        return named if named.startswith("FP") else ""
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return ""
    return "FP32" if array.dtype.kind == "f" and not (array == np.rint(array)).all() else ""


def _check_dtype(name: str, spec: TensorSpec) -> None:
    if _DATATYPES.get(name.upper()) != spec.datatype:
        also = ", or FP32 to be quantized" if spec.quantization else ""
        raise ArgumentError(f"argument {spec.name}: dtype is {name[:20]!r}, but the model takes {spec.datatype}{also}")


def _from_bytes(value: Mapping[str, Any], spec: TensorSpec) -> Array:
    dtype = DATATYPES[spec.datatype]
    data = value["data"] if isinstance(value["data"], bytes) else decode_base64(value["data"])
    if data is None:
        raise ArgumentError(f"argument {spec.name}: data is not valid base64")
    needed = math.prod(value["shape"]) * dtype.itemsize
    if len(data) != needed:
        raise ArgumentError(
            f"argument {spec.name}: data has {len(data)} bytes, but {spec.datatype} of shape {value['shape']} has {needed}"
        )
    if dtype.kind == "b":
        flags: Array = np.frombuffer(data, np.uint8) != 0  # a byte other than 0 and 1 is no valid bool to numpy
        return flags
    array: Array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
    return array


def _reshaped(array: Array, shape: Sequence[int], spec: TensorSpec) -> Array:
    if list(array.shape) == list(shape):
        return array
    if array.size != math.prod(shape) or (array.ndim > 1 and array.size):
        raise ArgumentError(f"argument {spec.name}: data has shape {list(array.shape)}, not {list(shape)[:_MAX_DIMENSIONS]}")
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"argument {spec.name}: shape {list(shape)[:_MAX_DIMENSIONS]} is not possible") from error


def _from_list(value: Any, spec: TensorSpec) -> Array:
    """A nested list, or a bare number for a scalar, as the model's dtype without loss of range."""
    dtype = DATATYPES[spec.datatype]
    try:
        array = np.array(value, object if spec.datatype == "BYTES" else None)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(
            f"argument {spec.name} is not a regular nested list: its parts differ in length or depth"
        ) from error
    if spec.datatype == "BYTES":
        return _strings(array, spec)
    if array.size == 0:
        return array.astype(dtype)
    if dtype.kind == "b":
        if array.dtype.kind != "b":
            raise ArgumentError(f"argument {spec.name} must have true and false only")
        return array
    if array.dtype.kind not in "iufO" or (array.dtype.kind == "O" and not _all_integers(array)):
        raise ArgumentError(f"argument {spec.name} must have numbers only")
    return _floats(array, spec) if dtype.kind == "f" else _integers(value, array, spec)


def _floats(array: Array, spec: TensorSpec) -> Array:
    with np.errstate(over="ignore"):
        try:
            converted = array.astype(DATATYPES[spec.datatype])
        except OverflowError:
            raise _out_of_range(spec) from None
    if not np.isfinite(converted).all():
        raise _out_of_range(spec)
    return converted


def _integers(value: Any, array: Array, spec: TensorSpec) -> Array:
    dtype = DATATYPES[spec.datatype]
    # numpy makes floats of integers too when some are small and others beyond int64
    if array.dtype.kind == "f" and not _all_integers(np.array(value, object)):
        if not (array == np.trunc(array)).all():
            raise ArgumentError(f"argument {spec.name} must have whole numbers only: the model takes {spec.datatype}")
        limits = np.iinfo(dtype)
        # max + 1 is a power of two, which a float holds exactly; max itself may not be
        if not ((array >= limits.min) & (array < float(limits.max + 1))).all():
            raise _out_of_range(spec)
    try:
        return np.array(value, dtype)
    except OverflowError:
        raise _out_of_range(spec) from None


def _strings(array: Array, spec: TensorSpec) -> Array:
    if not all(isinstance(entry, str) for entry in array.flat):
        raise ArgumentError(f"argument {spec.name} must be a regular nested list of strings")
    return array


def _all_integers(array: Array) -> bool:
    return all(isinstance(entry, int) for entry in array.flat)


def _out_of_range(spec: TensorSpec) -> ArgumentError:
    return ArgumentError(f"argument {spec.name} has values outside the range of {spec.datatype}")
