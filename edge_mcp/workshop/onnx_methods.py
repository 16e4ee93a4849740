"""Makes an ONNX file smaller; the only module that imports `onnx`, and ONNX Runtime's quantization tools."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.errors import ModelError
from edge_mcp.workshop.recorder import Run

_LEAST_ELEMENTS = 1024  # smaller weights save nothing, and lose most
_OLDEST_OPSET = 13  # the first with a scale for each channel
# Which dimension of a weight has the output channels, by the operator that takes it as which input.
_CHANNELS = {("Conv", 1): 0, ("ConvTranspose", 1): 1, ("MatMul", 1): -1, ("Gather", 0): 0}
_RECURRENT = ("LSTM", "GRU", "RNN")  # weights [directions, gates, inputs]: a scale for each gate's unit


def weight_only(source: Path, target: Path) -> None:
    """Weights as int8 with a float32 scale for each channel, which the runtime folds back into float32 when it loads them.

    Raises: ModelError when there is nothing to make smaller.
    """
    _guarded(source, lambda: _weight_only(source, target))


def _weight_only(source: Path, target: Path) -> None:
    model = onnx.load(str(source))
    graph = model.graph
    _constants_to_weights(graph)
    unfolded = [node for tensor in list(graph.initializer) for node in _packed(graph, tensor)]
    if not unfolded:
        raise ModelError(
            f"{source.name} has no float32 weights of {_LEAST_ELEMENTS} elements or more", "It is as small as it gets"
        )
    nodes = [*unfolded, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(target))


def dynamic(source: Path, target: Path) -> None:
    """Weights as 8-bit integers, and activations at run time. Raises: ModelError."""
    _guarded(source, lambda: quantize_dynamic(str(source), str(target), weight_type=QuantType.QUInt8, per_channel=True))


def static(source: Path, target: Path, runs: Sequence[Run]) -> None:
    """Weights as int8, a scale for each channel; activations as uint8, their ranges as in `runs` (QDQ). Raises: ModelError."""
    prepared = target.with_suffix(".prepared.onnx")

    def work() -> None:
        model = onnx.load(str(source))
        if _opset(model) < _OLDEST_OPSET:
            model = version_converter.convert_version(model, _OLDEST_OPSET)
        onnx.save(model, str(prepared))
        quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
        try:
            _quantize_static(prepared, target, runs, {})
        except ValueError:  # ONNX Runtime 1.32 stumbles over the biases of some matrices with a scale for each channel
            _quantize_static(prepared, target, runs, {"QDQDisableWeightAdjustForInt32Bias": True})

    try:
        _guarded(source, work)
    finally:
        prepared.unlink(missing_ok=True)


def _quantize_static(source: Path, target: Path, runs: Sequence[Run], extra: dict[str, Any]) -> None:
    quantize_static(
        str(source),
        str(target),
        _Reader(runs),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options=extra,
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """The inputs of the runs, one after the other."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._inputs = iter([dict(inputs) for inputs, _ in runs])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._inputs, None)


def _guarded(source: Path, work: Any) -> None:
    """ONNX Runtime's tools raise whatever they like. Raises: ModelError."""
    try:
        work()
    except (MemoryError, ModelError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"ONNX Runtime's tools cannot do that to {source.name}: {reason}", "Try another --method") from error


def _opset(model: Any) -> int:
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def _constants_to_weights(graph: Any) -> None:
    """PaddlePaddle's exporter keeps weights in nodes of the operator Constant."""
    for node in list(graph.node):
        value = node.attribute[0].t if node.op_type == "Constant" and node.attribute[0].name == "value" else None
        if value is not None and value.data_type == TensorProto.FLOAT and np.prod(value.dims) >= _LEAST_ELEMENTS:
            weight = graph.initializer.add()
            weight.CopyFrom(value)
            weight.name = node.output[0]
            graph.node.remove(node)


def _packed(graph: Any, tensor: Any) -> Iterator[Any]:
    """Replace one weight; yields the nodes that make it float32 again."""
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LEAST_ELEMENTS:
        return
    weights = numpy_helper.to_array(tensor).astype(np.float32)
    kept = _kept_dimensions(graph, tensor.name, weights.ndim)
    others = tuple(axis for axis in range(weights.ndim) if axis not in kept)
    scale = np.asarray(np.maximum(np.abs(weights).max(axis=others, keepdims=True), 1e-12) / 127, np.float32)
    integers = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    name = tensor.name
    graph.initializer.remove(tensor)
    for content, ending in ((integers, "_int8"), (scale, "_scale")):
        graph.initializer.append(numpy_helper.from_array(content, name + ending))
    yield helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name])


def _kept_dimensions(graph: Any, name: str, dimensions: int) -> tuple[int, ...]:
    """Along which dimensions each index has a scale of its own."""
    for node in graph.node:
        if name not in node.input:
            continue
        if node.op_type in _RECURRENT and dimensions == 3:
            return 0, 1
        if node.op_type == "Gemm":
            turned = any(one.name == "transB" and one.i for one in node.attribute)
            return (0,) if turned else (1,)
        axis = _CHANNELS.get((node.op_type, list(node.input).index(name)))
        if axis is not None and dimensions > 1:
            return (axis % dimensions,)
    return ()
