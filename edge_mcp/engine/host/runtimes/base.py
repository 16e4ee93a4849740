"""The seam between the engine and an inference runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_mcp.engine.host.runtimes.axes import Axes
from edge_mcp.engine.messages import TensorSpec

Array = NDArray[Any]
Value = Any
"""An output: an Array; or, of an ONNX sequence or map, a list or dict of Arrays and plain values."""

# Open Inference Protocol v2, "Tensor Data Types". BYTES is a string tensor: numpy dtype object, elements str.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
QUANTIZED = frozenset({"INT8", "UINT8", "INT16", "UINT16", "INT32"})
"""Datatypes whose integers may stand for reals."""


class RuntimeOptions(msgspec.Struct, frozen=True):
    """How to load a model. `threads` is the number of threads within one run.

    `signature` names the one to serve of a file with several; empty: the file's only one, `serving_default`, or its first.
    """

    threads: int = 1
    signature: str = ""


class LoadedModel(Protocol):
    """A model in memory. `infer` may be called from several threads at once."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    metadata: Mapping[str, str]
    """What the file says about itself, bounded in size; see `engine.messages.Described`."""
    signatures: Sequence[str]
    """The names of the signatures that a TFLite file has."""

    @property
    def batch_axes(self) -> Sequence[Axes]:
        """Where the file lets a batch of any size be, the likeliest first; see `axes.declared_axes`."""
        ...

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """Run once. Arrays have the declared dtypes and shapes; the results own their memory. Raises: ModelError."""
        ...

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        ...


@runtime_checkable
class KeepsState(Protocol):
    """A LoadedModel whose file may keep state within, which its runs must not see unless they belong together."""

    def session(self) -> LoadedModel:
        """The same model with state of its own, which begins here and outlasts its runs; one run at a time."""
        ...


def session_of(model: LoadedModel) -> LoadedModel:
    """For runs that belong together: a session where the model keeps state, else the model itself."""
    return model.session() if isinstance(model, KeepsState) else model


class Runtime(Protocol):
    """Loads the model files of one format."""

    suffixes: frozenset[str]

    def load(self, path: Path, options: RuntimeOptions) -> LoadedModel:
        """Load by path. Raises: ModelError (corrupt or unsupported file, with the runtime's reason)."""
        ...
