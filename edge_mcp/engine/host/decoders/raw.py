"""The outputs as they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.quantized import dequantize
from edge_mcp.engine.host.runtimes.base import NAMES, Array, Value
from edge_mcp.engine.messages import Quantization, TensorSpec
from edge_mcp.repository.manifest import Manifest


class RawDecoder:
    """Every output as `{dtype, shape, data}`.

    Of a sequence or map, `dtype` is ONNX's name of its type, and `data` is made of lists and objects.
    """

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        self._outputs = outputs

    def decode(self, outputs: Mapping[str, Value], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """Data is bytes where the argument `encoding` says so, or an input came so; else nested lists, where NaN is null.

        Integers that stand for reals go with their `scale` and `zero_point`, or are made reals where `dequantize` says so.
        """
        encoding = arguments.get("encoding") or ("base64" if prepared.source else "list")
        real = arguments.get("dequantize", False)
        return Result({"outputs": {spec.name: _answer(outputs[spec.name], spec, encoding, real) for spec in self._outputs}})


def _answer(value: Value, spec: TensorSpec, encoding: str, real: bool) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        shape = [len(value)] if isinstance(value, list | tuple) else []
        return {"dtype": spec.datatype, "shape": shape, "data": _structure(value, encoding)}
    if spec.quantization is None:
        return _tensor(value, encoding)
    if real:
        return _tensor(dequantize(value, spec.quantization), encoding)
    return {**_tensor(value, encoding), **_parameters(spec.quantization)}


def _tensor(array: Array, encoding: str) -> dict[str, Any]:
    datatype = NAMES[array.dtype]
    if encoding == "base64" and datatype != "BYTES":
        data: Any = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()  # base64 when it is written as JSON
    else:
        data = array.tolist()  # NaN and infinities become null when msgspec writes them
    return {"dtype": datatype, "shape": list(array.shape), "data": data}


def _structure(value: Value, encoding: str) -> Any:
    """Lists, objects whose keys are texts, tensors in them, and plain values."""
    if isinstance(value, np.ndarray):
        return _tensor(value, encoding)
    if isinstance(value, Mapping):
        return {str(key): _structure(entry, encoding) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_structure(entry, encoding) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _parameters(quantization: Quantization) -> dict[str, Any]:
    if len(quantization.scale) == 1:
        return {"scale": quantization.scale[0], "zero_point": quantization.zero_point[0]}
    return {"scale": quantization.scale, "zero_point": quantization.zero_point, "axis": quantization.axis}
