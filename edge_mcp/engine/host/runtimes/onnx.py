"""ONNX models in ONNX Runtime, on the CPU; the only module that imports `onnxruntime`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edge_mcp.engine.host.runtimes.axes import Axes, declared_axes
from edge_mcp.engine.host.runtimes.base import QUANTIZED, Array, RuntimeOptions, Value
from edge_mcp.engine.host.runtimes.checks import (
    bounded_metadata,
    check_signature,
    check_tensors,
    fitting,
    one_line,
    shown,
)
from edge_mcp.engine.host.runtimes.onnx_file import OnnxFacts, read_facts
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError, ModelError

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_SERVED = "Tensors of booleans, strings, 8 to 64 bit integers and 16 to 64 bit floats are served"
_TENSOR = re.compile(r"tensor\([^()]*\)")
_MAP = r"map\((?:string|u?int(?:8|16|32|64)),tensor\([^()]*\)\)"
_STRUCTURE = re.compile(rf"seq\((?:tensor\([^()]*\)|{_MAP})\)|{_MAP}")
_NO_VERSION = 2**63 - 1  # what ONNX Runtime says of a file without one
_FATAL = 4  # log_severity_level: what is merely an error comes as an exception too
# Every failure of ONNX Runtime is a class of its own, each derived from Exception alone.
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class OnnxRuntime:
    """Loads `.onnx` files."""

    suffixes = frozenset({".onnx"})

    def load(self, path: Path, options: RuntimeOptions) -> "OnnxModel":
        """Load by path: from bytes costs 5 to 60 MB more, and a mapping is refused. Raises: ModelError."""
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = _FATAL  # of its runs too
        settings.enable_mem_pattern = False  # one block planned for each shape: 1 to 70 MB more here, and no faster
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
        facts = read_facts(path)
        _check_external(path, facts)
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"], enable_fallback=0)
        except _FAILURES as error:
            raise ModelError(
                f"{path.name} cannot be loaded: {_reason(error)}", f"This is ONNX Runtime {onnxruntime.__version__}"
            ) from error
        return OnnxModel(session, path.name, facts)


class OnnxModel:
    """A session; ONNX Runtime lets several threads run it at once."""

    def __init__(self, session: Any, file: str, facts: OnnxFacts) -> None:
        """Raises: ModelError when an input or output cannot be served."""
        self._session = session
        self._file = file
        self.inputs: Sequence[TensorSpec] = [_input(node, file, facts) for node in session.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_output(node, file, facts) for node in session.get_outputs()]
        check_signature(file, self.inputs, self.outputs)
        self.metadata: Mapping[str, str] = _metadata(session.get_modelmeta())
        self.signatures: Sequence[str] = ()
        self._names = [spec.name for spec in self.outputs]
        self.batch_axes: Sequence[Axes] = declared_axes(
            self.inputs, self.outputs, _dimensions(session.get_inputs()), _dimensions(session.get_outputs())
        )
        self._largest = 0
        self._shrink = onnxruntime.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """Run once. Raises: ArgumentError (names, dtypes, shapes), ModelError (the run failed)."""
        check_tensors(self.inputs, tensors)
        try:
            outputs = self._session.run(self._names, dict(tensors), self._run_options(tensors))
        except native.InvalidArgument as error:
            raise ArgumentError(f"{self._file} refuses the input: {_reason(error)}") from error
        except UnicodeDecodeError as error:
            raise ModelError(f"{self._file} answered a string that is not UTF-8") from error
        except _FAILURES as error:
            raise ModelError(f"{self._file} failed: {_reason(error)}") from error
        return dict(zip(self._names, outputs, strict=True))

    def close(self) -> None:
        """Drop the session and its arena."""
        self._session = None

    def _run_options(self, tensors: Mapping[str, Array]) -> Any:
        """Shrink the arena with the first run that is at most half of the largest since.

        Shrinking after every large batch costs that batch a third of its time (all its pages are faulted in again), so
        a series of large batches keeps the arena, and the first small run after them gives it back. A race between two
        runs only means one shrinking more or less.
        """
        size = sum(array.size for array in tensors.values())
        if 2 * size <= self._largest:
            self._largest = size
            return self._shrink
        self._largest = max(size, self._largest)
        return None


def _input(node: Any, file: str, facts: OnnxFacts) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise ModelError(f"{file}: input {shown(node.name)} is {_kind(node.type)}", _SERVED + _advice(node.type))
    return _tensor(node, facts, 0)


def _output(node: Any, file: str, facts: OnnxFacts) -> TensorSpec:
    if node.type in _DATATYPES:
        return _tensor(node, facts, 1)  # 0 is what is said of what comes out of control flow
    structure = _STRUCTURE.fullmatch(node.type)
    if not structure or any(part not in _DATATYPES for part in _TENSOR.findall(node.type)):
        raise ModelError(f"{file}: output {shown(node.name)} is {_kind(node.type)}", _SERVED + _advice(node.type))
    return TensorSpec(node.name, node.type, ())


def _tensor(node: Any, facts: OnnxFacts, least: int) -> TensorSpec:
    """`least` is the smallest size of a dimension that is taken at its word."""
    datatype = _DATATYPES[node.type]
    # ONNX Runtime says [] of a scalar and of an unknown rank alike.
    shape = tuple(size if isinstance(size, int) and size >= least else -1 for size in node.shape)
    quantization = fitting(facts.quantized.get(node.name), shape) if datatype in QUANTIZED else None
    return TensorSpec(node.name, datatype, shape, quantization, not shape and node.name in facts.unranked)


def _dimensions(nodes: Any) -> Mapping[str, Sequence[str]]:
    """The names of dimensions."""
    return {node.name: [size if isinstance(size, str) else "" for size in node.shape] for node in nodes}


def _advice(written: str) -> str:
    return ": add a Cast to the model" if _TENSOR.fullmatch(written) else "; of outputs also sequences and maps of them"


def _kind(written: str) -> str:
    return written if len(written) <= 80 else written[:80] + "…"


def _check_external(path: Path, facts: OnnxFacts) -> None:
    """Weights beside the file may be in its folder only, wherever links lead. Raises: ModelError."""
    folder = path.parent.resolve()
    for location in sorted(facts.external):
        try:
            place = (folder / location).resolve()
            inside = place.is_relative_to(folder) and not Path(location).is_absolute()
            there = inside and place.is_file()
        except (OSError, ValueError, RuntimeError):
            inside = there = False
        if not inside:
            raise ModelError(
                f"{path.name} has weights in {shown(location)}, outside its folder", "Put them beside the model file"
            )
        if not there:
            raise ModelError(
                f"{path.name} has weights in {shown(location)}, which is not there", "Put it beside the model file"
            )


def _metadata(meta: Any) -> dict[str, str]:
    fields = {
        "onnx.producer": meta.producer_name,
        "onnx.graph": meta.graph_name,
        "onnx.domain": meta.domain,
        "onnx.version": "" if meta.version in (0, _NO_VERSION) else str(meta.version),
        "onnx.description": meta.description,
    }
    return bounded_metadata({**meta.custom_metadata_map, **fields})


def _reason(error: Exception) -> str:
    """Without the prefix "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from PATH failed:"."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from \S+ failed:)?", "", one_line(error))
