"""What callers give as arguments, as it is sent; and the tensors of an answer as numpy's arrays.

numpy is used where the caller has imported it, and never imported for anybody.
"""

import asyncio
import base64
import binascii
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge_mcp.errors import ArgumentError, CallError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
"""numpy's dtypes, by the names that the Open Inference Protocol has for them."""
_NUMPY = {name: dtype for dtype, name in _DTYPES.items()}


async def sendable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they are sent: a file's content for its Path, a tensor for an array; bytes stay, which the encoding
    writes. Raises: ArgumentError, OSError."""
    return {name: await _sendable(name, value) for name, value in arguments.items()}


async def _sendable(name: str, value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    match value:
        case Path():
            return await asyncio.to_thread(value.read_bytes)
        case bytearray() | memoryview():
            return bytes(value)
        case _ if numpy is not None and isinstance(value, numpy.ndarray):
            return _tensor(name, value)
        case _ if numpy is not None and isinstance(value, numpy.generic):
            return value.item()
        case list() | tuple() | dict() if numpy is not None:
            return _plain(name, value)
        case _:
            return value


def _plain(name: str, value: Any) -> Any:
    """A list or an object, in which there may be numpy's values. Raises: ArgumentError."""
    numpy = sys.modules["numpy"]

    def plain(part: Any) -> Any:
        if isinstance(part, numpy.ndarray):
            return _tensor(name, part)
        if isinstance(part, numpy.generic):
            return part.item()
        raise TypeError(f"objects of type {type(part).__name__} cannot be sent")

    try:
        return msgspec.to_builtins(value, builtin_types=(bytes, bytearray, memoryview), enc_hook=plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"argument {name}: {error}") from error


def _tensor(name: str, array: "NDArray[Any]") -> dict[str, Any]:
    """Raises: ArgumentError."""
    if array.dtype.kind in "USO":
        return {"dtype": "BYTES", "shape": list(array.shape), "data": array.ravel().tolist()}
    dtype = _DTYPES.get(array.dtype.name)
    if dtype is None:
        raise ArgumentError(f"argument {name}: no tensor has the dtype {array.dtype}", f"There are {', '.join(_DTYPES)}")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": dtype, "shape": list(array.shape), "data": little.tobytes()}


def arrays(structured: Any) -> "dict[str, NDArray[Any]]":
    """The tensors among `outputs` of an answer, by their names; integers and reals of its dtype, texts as objects.

    Raises: CallError where it has none, or numpy is not imported.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise CallError("numpy is not imported here", "Import numpy before asking for arrays")
    outputs = structured.get("outputs") if isinstance(structured, dict) else None
    if not isinstance(outputs, dict):
        raise CallError("the answer has no tensors", "Its structured content is in .structured")
    return {name: _array(numpy, name, tensor) for name, tensor in outputs.items() if _is_tensor(tensor)}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and {"dtype", "shape", "data"} <= value.keys()


def _array(numpy: Any, name: str, tensor: Mapping[str, Any]) -> "NDArray[Any]":
    data, shape = tensor["data"], tensor["shape"]
    try:
        dtype = numpy.dtype(_NUMPY.get(tensor["dtype"], "object"))
        if isinstance(data, str):
            data = binary(data)
        if isinstance(data, bytes):
            raw = numpy.frombuffer(data, dtype.newbyteorder("<"))
            array = raw.astype(dtype, copy=not raw.dtype.isnative)
        else:
            array = numpy.array(data, dtype)  # null, which stands for what is no finite number, becomes NaN
        shaped: NDArray[Any] = array.reshape(shape)
        return shaped
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise CallError(f"the output {name} is not the tensor that it says: {error}") from error


def binary(data: str | bytes) -> bytes:
    """Bytes as either encoding has them. Raises: binascii.Error, ValueError."""
    return data if isinstance(data, bytes) else base64.b64decode(data, validate=True)
