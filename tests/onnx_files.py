"""Writes small ONNX files without the package `onnx`: each function answers one protobuf message of onnx.proto."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE, UINT32, UINT64 = range(1, 14)
COMPLEX64, BFLOAT16, FLOAT8, INT4 = 14, 16, 17, 22
TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.int8): INT8, np.dtype(np.int64): INT64}
Field = bytes | str | int | float


def field(number: int, value: Field) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def repeated(number: int, values: Sequence[Field]) -> bytes:
    return b"".join(field(number, value) for value in values)


def tensor_type(datatype: int, shape: Sequence[int | str] | None) -> bytes:
    """Of unknown rank without a shape; a text is a named dimension, "" one that is not."""
    content = field(1, datatype)
    if shape is not None:
        sizes = [field(1, size) if isinstance(size, int) else field(2, size) if size else b"" for size in shape]
        content += field(2, repeated(1, sizes))
    return field(1, content)


def sequence_type(of: bytes) -> bytes:
    return field(4, field(1, of))


def map_type(key: int, of: bytes) -> bytes:
    return field(5, field(1, key) + field(2, of))


def optional_type(of: bytes) -> bytes:
    return field(9, field(1, of))


def value(name: str, datatype: int | bytes, shape: Sequence[int | str] | None = None) -> bytes:
    """An input or output: of a tensor's datatype and shape, or of a type made by the functions above."""
    return field(1, name) + field(2, datatype if isinstance(datatype, bytes) else tensor_type(datatype, shape))


def tensor(name: str, array: Any) -> bytes:
    array = np.asarray(array)
    kind = TYPES[array.dtype]
    return repeated(1, array.shape) + field(2, kind) + field(8, name) + field(9, array.tobytes())


def external_tensor(name: str, shape: Sequence[int], location: str) -> bytes:
    entries = {"location": location, "offset": "0", "length": str(4 * int(np.prod(shape)))}
    places = repeated(13, [field(1, key) + field(2, text) for key, text in entries.items()])
    return repeated(1, shape) + field(2, FLOAT) + field(8, name) + places + field(14, 1)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any) -> bytes:
    """`attributes` are integers, floats, texts, lists of them, and Graph objects."""
    written = repeated(1, inputs) + repeated(2, outputs) + field(4, op) + field(7, domain)
    return written + repeated(5, [_attribute(name, content) for name, content in attributes.items()])


class Graph(bytes):
    """An attribute that is a graph."""


class Tensor(bytes):
    """An attribute that is a tensor."""


def _attribute(name: str, content: Any) -> bytes:
    one = {Graph: (6, 5), Tensor: (5, 4), int: (3, 2), float: (2, 1), str: (4, 3)}
    many = {int: (8, 7), float: (7, 6), str: (9, 8)}
    if isinstance(content, list):
        number, kind = many[type(content[0])]
        return field(1, name) + repeated(number, content) + field(20, kind)
    number, kind = one[type(content)]
    return field(1, name) + field(number, content) + field(20, kind)


def graph(
    nodes: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes], initializers: Sequence[bytes] = ()
) -> Graph:
    return Graph(repeated(1, nodes) + field(2, "g") + repeated(5, initializers) + repeated(11, inputs) + repeated(12, outputs))


def model(main: bytes, metadata: Mapping[str, str] | None = None, opset: int = 21, **fields: Field) -> bytes:
    numbers = {"producer": 2, "domain": 4, "version": 5, "description": 6}
    opsets = repeated(8, [field(1, "") + field(2, opset), field(1, "ai.onnx.ml") + field(2, 3)])
    said = repeated(14, [field(1, key) + field(2, text) for key, text in (metadata or {}).items()])
    named = b"".join(field(numbers[name], content) for name, content in fields.items())
    return field(1, 10) + named + field(7, main) + opsets + said


def identity(*datatypes: int, shape: Sequence[int | str] | None = (2,)) -> bytes:
    """y0 = x0, y1 = x1 …, one pair of each datatype."""
    nodes = [node("Identity", [f"x{index}"], [f"y{index}"]) for index in range(len(datatypes))]
    inputs = [value(f"x{index}", datatype, shape) for index, datatype in enumerate(datatypes)]
    outputs = [value(f"y{index}", datatype, shape) for index, datatype in enumerate(datatypes)]
    return model(graph(nodes, inputs, outputs))
