"""Integers that stand for reals, in both directions."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from edge_mcp.engine.host.runtimes.axes import Axes
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel, Value, session_of
from edge_mcp.engine.messages import Quantization, TensorSpec


def quantize(reals: Array, quantization: Quantization, datatype: str) -> Array:
    """The nearest integers of `datatype`; what is beyond its range becomes its least or greatest. No NaN."""
    dtype = DATATYPES[datatype]
    limits = np.iinfo(dtype)
    scale, points = _aligned(quantization, reals.ndim)
    integers: Array = np.clip(np.rint(reals.astype(np.float64) / scale + points), limits.min, limits.max).astype(dtype)
    return integers


def dequantize(integers: Array, quantization: Quantization) -> Array:
    """Float32, of the same shape."""
    scale, points = _aligned(quantization, integers.ndim)
    return np.asarray((integers.astype(np.float64) - points) * scale, np.float32)


class RealValues:
    """A model whose quantized inputs and outputs are taken and given as float32: what modalities and decoders work with."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._inputs = {spec.name: (spec.quantization, spec.datatype) for spec in model.inputs if spec.quantization}
        self._outputs = {spec.name: spec.quantization for spec in model.outputs if spec.quantization}
        self.inputs: Sequence[TensorSpec] = [_real(spec) for spec in model.inputs]
        self.outputs: Sequence[TensorSpec] = [_real(spec) for spec in model.outputs]
        self.metadata = model.metadata
        self.signatures = model.signatures

    @property
    def batch_axes(self) -> Sequence[Axes]:
        """See LoadedModel."""
        return self._model.batch_axes

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """See LoadedModel."""
        given = {
            name: quantize(array, *self._inputs[name]) if name in self._inputs else array for name, array in tensors.items()
        }
        return {
            name: dequantize(value, self._outputs[name]) if name in self._outputs else value
            for name, value in self._model.infer(given).items()
        }

    def session(self) -> "RealValues":
        """See KeepsState."""
        return RealValues(session_of(self._model))

    def close(self) -> None:
        """See LoadedModel."""
        self._model.close()


def _real(spec: TensorSpec) -> TensorSpec:
    return msgspec.structs.replace(spec, datatype="FP32", quantization=None) if spec.quantization else spec


def _aligned(quantization: Quantization, dimensions: int) -> tuple[Array, Array]:
    """Scales and zero points, of a shape that goes with a tensor of so many dimensions."""
    shape = [1] * dimensions
    if len(quantization.scale) > 1:
        shape[quantization.axis] = -1
    else:
        shape = []
    return np.array(quantization.scale).reshape(shape), np.array(quantization.zero_point).reshape(shape)
