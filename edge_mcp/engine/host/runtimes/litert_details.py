"""What a LiteRT interpreter tells of a file: its signatures, names and tensors."""

import mmap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mcp.engine.host.runtimes.base import NAMES, QUANTIZED
from edge_mcp.engine.host.runtimes.checks import fitting, one_line, shown
from edge_mcp.engine.messages import Quantization, TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.flatbuffer import Table, of_bytes

_PACKED = {17: "int4", 19: "int2", 20: "uint4"}  # TensorType
_MAX_GRAPHS = 1000
_MAX_TENSORS = 100_000
_MAX_NAME = 1_000_000
_DEFAULT = "serving_default"
_SERVED = "Tensors of booleans, strings, 8 to 64 bit integers and 16 to 64 bit floats are served"

Details = Mapping[str, Mapping[str, Any]]
"""What LiteRT says of tensors, by the names under which they are served."""


def chosen_signature(file: str, signatures: Sequence[str], wanted: str) -> str:
    """Which signature is served: the one wanted, else the default one, else the first; "": the file has none.

    Raises: ModelError when the wanted one is not there.
    """
    if wanted and wanted not in signatures:
        there = ", ".join(map(shown, signatures[:20])) or "none"
        raise ModelError(f"{file} has no signature {shown(wanted)}", f"Its signatures, for model.signature: {there}")
    if wanted or not signatures:
        return wanted
    return _DEFAULT if _DEFAULT in signatures else signatures[0]


def main_details(interpreter: Any) -> tuple[Details, Details]:
    """Inputs and outputs of the file as such, under the tensors' own names; twins and those without a name are numbered."""
    return _named(interpreter.get_input_details(), "input"), _named(interpreter.get_output_details(), "output")


def same_tensors(one: Details, other: Details) -> bool:
    """Whether both are the same tensors of the same graph, under whatever names."""
    found = [sorted((detail["index"], detail["name"]) for detail in details.values()) for details in (one, other)]
    return found[0] == found[1]


def specs(file: str, details: Details, what: str) -> list[TensorSpec]:
    """Of "input" or "output". Raises: ModelError when a tensor is of a kind that cannot be served."""
    return [_spec(file, name, detail, what) for name, detail in details.items()]


def check_packed(path: Path, *details: Details) -> None:
    """Raises: ModelError when a tensor has several integers in a byte, which LiteRT shows as one, and so wrongly."""
    tensors = [(what, detail) for what in details for detail in what.values() if np.dtype(detail["dtype"]).itemsize == 1]
    if not tensors:
        return
    packed = _packed(path)
    for what, detail in tensors:
        if kind := packed.get((int(detail["index"]), detail["name"])):
            word = "input" if what is details[0] else "output"
            raise ModelError(f"{path.name}: {word} {shown(detail['name'])} is {kind}", _SERVED)


def _packed(path: Path) -> dict[tuple[int, str], str]:
    """The tensors of such types in all graphs, by index and name (schema.fbs: Model.subgraphs, SubGraph.tensors, Tensor)."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            graphs = Table.root(of_bytes(content)).tables(2, _MAX_GRAPHS)
            return {
                (index, tensor.text(3, _MAX_NAME)): _PACKED[kind]
                for graph in graphs
                for index, tensor in enumerate(graph.tables(0, _MAX_TENSORS))
                if (kind := int(tensor.number(1))) in _PACKED
            }
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be loaded: {one_line(error)}") from error


def may_keep_state(interpreter: Any) -> bool:
    """Whether state may outlast a run: LiteRT shows a resource as a tensor of Python objects, a string as one of bytes."""
    return any(
        np.dtype(detail["dtype"]) == np.object_
        for subgraph in range(interpreter.num_subgraphs())
        for detail in interpreter.get_tensor_details(subgraph)
    )


def _named(details: Iterable[Mapping[str, Any]], what: str) -> dict[str, Mapping[str, Any]]:
    named: dict[str, Mapping[str, Any]] = {}
    for detail in details:
        name = base = detail["name"] or what
        number = 2
        while name in named:
            name = f"{base}_{number}"
            number += 1
        named[name] = detail
    return named


def _spec(file: str, name: str, detail: Mapping[str, Any], what: str) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    datatype = "BYTES" if dtype.kind == "S" else NAMES.get(dtype)
    if datatype is None or dtype == np.object_:
        kind = "a resource" if dtype == np.object_ else str(dtype)
        raise ModelError(f"{file}: {what} {shown(name)} is {kind}", _SERVED)
    # The signature is empty where it says no more than the shape does. 0 is what is said before a size is known.
    declared = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    shape = tuple(int(size) if size > 0 else -1 for size in declared)
    # An output of unknown rank is said to have none.
    return TensorSpec(name, datatype, shape, _quantization(detail, datatype), what == "output" and not shape)


def _quantization(detail: Mapping[str, Any], datatype: str) -> Quantization | None:
    found = detail["quantization_parameters"]
    scale = tuple(float(one) for one in found["scales"])
    points = tuple(int(one) for one in found["zero_points"])
    if datatype not in QUANTIZED or not scale or len(scale) != len(points) or not all(0 < one < float("inf") for one in scale):
        return None
    return fitting(Quantization(scale, points, int(found["quantized_dimension"]) if len(scale) > 1 else 0), detail["shape"])
