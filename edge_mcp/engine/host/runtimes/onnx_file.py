"""What ONNX Runtime does not tell of an ONNX file: read from its protobuf, of which the weights are left alone.

Field numbers are those of onnx.proto (ONNX 1.23). A field that occurs twice is read twice: protobuf would merge the two.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_mcp.engine.messages import Quantization
from edge_mcp.errors import ModelError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are in no ONNX file
_MAX_DEPTH = 32  # graphs within graphs
_MAX_FIELDS = 4_000_000  # in all: half a minute of a slow processor; the largest models have a tenth of it
_MAX_KNOWN = 200_000  # tensors of which it is remembered where they are
_MAX_NUMBERS = 1_000_000  # scales and zero points of all inputs and outputs
_QUANTIZING = ("DequantizeLinear", "QuantizeLinear")
_MAX_SMALL = 64 * 1024  # bytes of a tensor that is read: a scale and a zero point for each of many channels
# TensorProto.DataType of scales and zero points: FLOAT, UINT8, INT8, UINT16, INT16, INT32
_FORMATS = {1: "f", 2: "B", 3: "b", 4: "H", 5: "h", 6: "i"}

Span = tuple[int, int]
"""Where a message's bytes begin and end in the file."""


@dataclass(slots=True)
class OnnxFacts:
    """Facts of one file, by tensor name where they are of a tensor."""

    unranked: set[str] = field(default_factory=set)
    """Inputs and outputs of the graph of which no shape is declared; those that are scalars have an empty one."""
    quantized: dict[str, Quantization] = field(default_factory=dict)
    """Inputs of the graph that are dequantized first, and outputs that are quantized last, by constants."""
    external: set[str] = field(default_factory=set)
    """Where the weights are that are not in the file, as it names the places."""


@dataclass(slots=True)
class _Node:
    op: str
    inputs: list[str]
    outputs: list[str]
    axis: int = 1
    blocked: bool = False


@dataclass(slots=True)
class _Graph:
    nodes: list[_Node] = field(default_factory=list)
    small: dict[str, tuple[Span, int]] = field(default_factory=dict)  # where it is, and of what type
    inputs: dict[str, bool] = field(default_factory=dict)  # name -> whether a shape is declared
    outputs: dict[str, bool] = field(default_factory=dict)


def read_facts(path: Path) -> OnnxFacts:
    """Raises: ModelError when this is no ONNX file, or one that nests too deeply."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[4:8] == b"TFL3":
                raise ModelError(f"{path.name} cannot be loaded: it is a TFLite file", "Name it NAME.tflite")
            return _Reader(content).facts()
    except _TooDeep as error:
        raise ModelError(f"{path.name} cannot be loaded: it has graphs within graphs, more than {_MAX_DEPTH} deep") from error
    except _TooLarge as error:
        raise ModelError(f"{path.name} cannot be loaded: it has more than {_MAX_FIELDS} parts besides its weights") from error
    except (ValueError, IndexError, struct.error) as error:
        raise ModelError(
            f"{path.name} cannot be loaded: it is no protobuf, or a torn one", "Is it a whole ONNX file?"
        ) from error
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error


class _TooDeep(Exception):
    pass


class _TooLarge(Exception):
    pass


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._external: set[str] = set()
        self._count = 0  # of fields
        self._numbers_read = 0

    def facts(self) -> OnnxFacts:
        main = _Graph()
        for number, _, span in self._fields((0, len(self._content))):
            if number == 7:
                self._read_graph(span, main, 0)
            elif number == 25:  # FunctionProto, whose nodes are field 7
                function = _Graph()
                for inner, _, part in self._fields(span):
                    if inner == 7:
                        self._read_node(part, function, 0)
        unranked = {name for named in (main.inputs, main.outputs) for name, shaped in named.items() if not shaped}
        return OnnxFacts(unranked, self._quantized(main), self._external)

    def _read_graph(self, span: Span, graph: _Graph, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _TooDeep
        for number, _, part in self._fields(span):
            if number == 1:
                self._read_node(part, graph, depth)
            elif number == 5:
                self._read_tensor(part, graph)
            elif number == 15:
                self._read_sparse(part, graph)
            elif number in (11, 12):
                name, shaped = self._value_info(part)
                (graph.inputs if number == 11 else graph.outputs)[name] = shaped

    def _read_node(self, span: Span, graph: _Graph, depth: int) -> None:
        node = _Node("", [], [])
        for number, _, part in self._fields(span):
            if number == 1:
                node.inputs.append(self._text(part))
            elif number == 2:
                node.outputs.append(self._text(part))
            elif number == 4:
                node.op = self._text(part)
            elif number == 5:
                self._read_attribute(part, node, graph, depth)
        if node.op in _QUANTIZING:
            graph.nodes.append(node)

    def _read_attribute(self, span: Span, node: _Node, graph: _Graph, depth: int) -> None:
        name, value = "", 0
        for number, integer, part in self._fields(span):
            if number == 1:
                name = self._text(part)
            elif number == 3:
                value = integer
            elif number in (5, 10):
                self._read_tensor(part, graph, node.outputs[0] if number == 5 and node.outputs else "")
            elif number in (22, 23):
                self._read_sparse(part, graph)
            elif number in (6, 11):
                self._read_graph(part, _Graph(), depth + 1)
        if name == "axis":
            node.axis = value - (1 << 64) if value >> 63 else value
        elif name == "block_size":
            node.blocked = value > 0

    def _read_sparse(self, span: Span, graph: _Graph) -> None:
        for number, _, part in self._fields(span):
            if number in (1, 2):
                self._read_tensor(part, graph)

    def _read_tensor(self, span: Span, graph: _Graph, name: str = "") -> None:
        kind = size = 0
        for number, integer, part in self._fields(span):
            if number == 2:
                kind = integer
            elif number == 8:
                name = self._text(part) or name
            elif number in (4, 5, 9):
                size += part[1] - part[0]
            elif number == 13:
                entry = {inner: self._text(piece) for inner, _, piece in self._fields(part)}
                if entry.get(1) == "location":
                    self._external.add(entry.get(2, ""))
        if kind in _FORMATS and size <= _MAX_SMALL and len(graph.small) < _MAX_KNOWN:
            graph.small[name] = (span, kind)

    def _numbers(self, span: Span, kind: int) -> list[float]:
        """A small tensor's elements, however they are written: raw, packed, or one field each."""
        numbers: list[float] = []
        for number, integer, (start, end) in self._fields(span):
            content = self._content[start:end]
            if number == 9:
                size = struct.calcsize(_FORMATS[kind])
                numbers += struct.unpack(f"<{len(content) // size}{_FORMATS[kind]}", content[: len(content) // size * size])
            elif number == 4:
                numbers += struct.unpack(f"<{len(content) // 4}f", content)
            elif number == 5:
                numbers += map(_signed, self._varints((start, end))) if end > start else [_signed(integer)]
        return numbers

    def _quantized(self, graph: _Graph) -> dict[str, Quantization]:
        found: dict[str, Quantization] = {}
        for node in graph.nodes:
            if node.blocked or not 2 <= len(node.inputs) <= 3 or not node.outputs:
                continue
            if node.op == "DequantizeLinear" and node.inputs[0] in graph.inputs:
                name = node.inputs[0]
            elif node.op == "QuantizeLinear" and node.outputs[0] in graph.outputs:
                name = node.outputs[0]
            else:
                continue
            if quantization := self._parameters(graph, node):
                found[name] = quantization
        return found

    def _parameters(self, graph: _Graph, node: _Node) -> Quantization | None:
        scale = tuple(self._known(graph, node.inputs[1]))
        named = node.inputs[2] if len(node.inputs) == 3 else ""
        points = tuple(int(point) for point in self._known(graph, named)) if named else (0,) * len(scale)
        if not scale or len(points) != len(scale) or not all(0 < one < float("inf") for one in scale):
            return None
        return Quantization(scale, points, node.axis if len(scale) > 1 else 0)

    def _known(self, graph: _Graph, name: str) -> list[float]:
        """The elements of a small tensor; empty where it is none."""
        if name not in graph.small:
            return []
        numbers = self._numbers(*graph.small[name])
        self._numbers_read += len(numbers)
        if self._numbers_read > _MAX_NUMBERS:
            raise _TooLarge
        return numbers

    def _value_info(self, span: Span) -> tuple[str, bool]:
        """The name, and whether a shape is declared (of what is no tensor: yes, it has none)."""
        name, shaped = "", True
        for number, _, part in self._fields(span):
            if number == 1:
                name = self._text(part)
            elif number == 2:
                tensors = [inner for kind, _, inner in self._fields(part) if kind == 1]
                shaped = not tensors or any(kind == 2 for one in tensors for kind, _, _ in self._fields(one))
        return name, shaped

    def _text(self, span: Span) -> str:
        return self._content[span[0] : span[1]].decode("utf-8", "replace")

    def _varints(self, span: Span) -> Iterator[int]:
        position = span[0]
        while position < span[1]:
            value, position = self._varint(position)
            yield value

    def _varint(self, position: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than ten bytes")

    def _fields(self, span: Span) -> Iterator[tuple[int, int, Span]]:
        """Field number, value of a varint (else 0), and where the content is (of a varint nowhere). Raises: ValueError."""
        position, end = span
        while position < end:
            self._count += 1
            if self._count > _MAX_FIELDS:
                raise _TooLarge
            key, position = self._varint(position)
            wire, value, start = key & 7, 0, position
            if wire == _VARINT:
                value, position = self._varint(position)
                start = position
            elif wire == _LENGTH:
                size, start = self._varint(position)
                position = start + size
            elif wire in (_FIXED64, _FIXED32):
                position += 8 if wire == _FIXED64 else 4
            else:
                raise ValueError("a group")
            if position > end:
                raise ValueError("a field that ends outside its message")
            yield key >> 3, value, (start, position)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
