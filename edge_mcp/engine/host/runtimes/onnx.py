"""ONNX models in ONNX Runtime, on the CPU; the only module that imports `onnxruntime`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edge_mcp.engine.host.runtimes.base import Array, RuntimeOptions, Value
from edge_mcp.engine.host.runtimes.checks import bounded_metadata, check_tensors, has_dynamic_batch, one_line
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
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"], enable_fallback=0)
        except _FAILURES as error:
            raise ModelError(f"{path.name} cannot be loaded: {_reason(error)}", "Is it a whole ONNX file?") from error
        return OnnxModel(session, path.name)


class OnnxModel:
    """A session; ONNX Runtime lets several threads run it at once."""

    def __init__(self, session: Any, file: str) -> None:
        """Raises: ModelError when an input or output is no tensor of an OIP datatype."""
        self._session = session
        self._file = file
        self.inputs: Sequence[TensorSpec] = [_spec(node, f"{file}: input") for node in session.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_spec(node, f"{file}: output") for node in session.get_outputs()]
        self.metadata: Mapping[str, str] = _metadata(session.get_modelmeta())
        self.signatures: Sequence[str] = ()
        self._names = [spec.name for spec in self.outputs]
        self._largest = 0
        self._shrink = onnxruntime.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension of every input and output is symbolic."""
        return has_dynamic_batch([*self.inputs, *self.outputs])

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """Run once. Raises: ArgumentError (names, dtypes, shapes), ModelError (the run failed)."""
        check_tensors(self.inputs, tensors)
        try:
            outputs = self._session.run(self._names, dict(tensors), self._run_options(tensors))
        except native.InvalidArgument as error:
            raise ArgumentError(f"{self._file} refuses the input: {_reason(error)}") from error
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


def _spec(node: Any, what: str) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise ModelError(
            f"{what} {node.name!r} is {node.type}", "Only tensors of plain numbers, booleans and strings are served"
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(node.name, _DATATYPES[node.type], shape)


def _metadata(meta: Any) -> dict[str, str]:
    fields = {
        "onnx.producer": meta.producer_name,
        "onnx.graph": meta.graph_name,
        "onnx.domain": meta.domain,
        "onnx.version": str(meta.version or ""),
        "onnx.description": meta.description,
    }
    return bounded_metadata({**meta.custom_metadata_map, **fields})


def _reason(error: Exception) -> str:
    """Without the prefix "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from PATH failed:"."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from \S+ failed:)?", "", one_line(error))
