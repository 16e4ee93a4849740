"""Writes small TFLite files with the schema that LiteRT carries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
    "string": schema.TensorType.STRING,
    "complex64": schema.TensorType.COMPLEX64,
    "int4": schema.TensorType.INT4,
    "uint4": schema.TensorType.UINT4,
    "resource": schema.TensorType.RESOURCE,
}


@dataclass
class Tensor:
    """`signature` is the shape with -1 where a size is open; `quantization` is scales, zero points and their dimension."""

    name: str
    kind: str
    shape: Sequence[int]
    signature: Sequence[int] | None = None
    content: Any = None
    quantization: tuple[Sequence[float], Sequence[int], int] | None = None


@dataclass
class Graph:
    """`operators` are (name in BuiltinOperator, indices of inputs, of outputs, options)."""

    tensors: Sequence[Tensor]
    operators: Sequence[tuple[str, Sequence[int], Sequence[int], Any]]
    inputs: Sequence[int]
    outputs: Sequence[int]
    name: str = "main"


@dataclass
class Signature:
    """Names of inputs and outputs, each the index of a tensor in the graph."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    graph: int = 0


@dataclass
class _Writer:
    model: Any
    codes: list[str] = field(default_factory=list)

    def graph(self, graph: Graph) -> Any:
        written = schema.SubGraphT()
        written.name = graph.name
        written.inputs, written.outputs = list(graph.inputs), list(graph.outputs)
        written.tensors = [self.tensor(tensor) for tensor in graph.tensors]
        written.operators = [self.operator(*operator) for operator in graph.operators]
        return written

    def tensor(self, tensor: Tensor) -> Any:
        written = schema.TensorT()
        written.name, written.type, written.shape = tensor.name, TYPES[tensor.kind], list(tensor.shape)
        written.shapeSignature = list(tensor.signature) if tensor.signature else None
        written.hasRank = True
        written.buffer = 0
        if tensor.content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.asarray(tensor.content).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            written.buffer = len(self.model.buffers) - 1
        if tensor.quantization:
            quantization = schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint, quantization.quantizedDimension = tensor.quantization
            written.quantization = quantization
        return written

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any) -> Any:
        if name not in self.codes:
            self.codes.append(name)
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = 1
            self.model.operatorCodes.append(code)
        written = schema.OperatorT()
        written.opcodeIndex = self.codes.index(name)
        written.inputs, written.outputs = list(inputs), list(outputs)
        if options is not None:
            written.builtinOptions = options
            written.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return written

    def signature(self, signature: Signature) -> Any:
        written = schema.SignatureDefT()
        written.signatureKey, written.subgraphIndex = signature.key, signature.graph
        written.inputs, written.outputs = _names(signature.inputs), _names(signature.outputs)
        return written


def model(graphs: Sequence[Graph], signatures: Sequence[Signature] = ()) -> bytes:
    written = schema.ModelT()
    written.version = 3
    written.buffers, written.operatorCodes = [schema.BufferT()], []
    writer = _Writer(written)
    written.subgraphs = [writer.graph(graph) for graph in graphs]
    written.signatureDefs = [writer.signature(signature) for signature in signatures]
    builder = flatbuffers.Builder(1024)
    builder.Finish(written.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _names(named: Mapping[str, int]) -> list[Any]:
    written = []
    for name, index in named.items():
        one = schema.TensorMapT()
        one.name, one.tensorIndex = name, index
        written.append(one)
    return written


def add(kind: str = "float32", shape: Sequence[int] = (1, 2), signature: Sequence[int] | None = None) -> Graph:
    """c = a + b."""
    tensors = [Tensor(name, kind, shape, signature) for name in "abc"]
    return Graph(tensors, [("ADD", [0, 1], [2], schema.AddOptionsT())], [0, 1], [2])
