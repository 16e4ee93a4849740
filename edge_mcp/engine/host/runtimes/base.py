"""The seam between the engine and an inference runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_mcp.engine.messages import TensorSpec

Array = NDArray[Any]

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


class RuntimeOptions(msgspec.Struct, frozen=True):
    """How to load a model. `threads` is the number of threads within one run."""

    threads: int = 1


class LoadedModel(Protocol):
    """A model in memory. `infer` may be called from several threads at once."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    @property
    def dynamic_batch(self) -> bool:
        """Whether the file declares that the first dimension of every input and output is a batch of any size."""
        ...

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run once. Arrays have the declared dtypes and shapes; the results own their memory. Raises: ModelError."""
        ...

    def close(self) -> None:
        """Give the memory back; no run may be in progress."""
        ...


class Runtime(Protocol):
    """Loads the model files of one format."""

    suffixes: frozenset[str]

    def load(self, path: Path, options: RuntimeOptions) -> LoadedModel:
        """Load by path. Raises: ModelError (corrupt or unsupported file, with the runtime's reason)."""
        ...
