"""LiteRT (TFLite) models, with the default XNNPACK delegate; the only module that imports `ai_edge_litert`."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge_mcp.engine.host.runtimes.base import NAMES, Array, RuntimeOptions
from edge_mcp.engine.host.runtimes.checks import check_tensors, has_dynamic_batch, one_line
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError, ModelError


class LitertRuntime:
    """Loads `.tflite` files."""

    suffixes = frozenset({".tflite"})

    def load(self, path: Path, options: RuntimeOptions) -> "LitertModel":
        """Load by path. Raises: ModelError."""
        return LitertModel(path, options.threads)


class LitertModel:
    """A pool of interpreters: one cannot run twice at once, so each concurrent run takes its own.

    A tool's answer depends on its arguments alone. A file that may have resource variables gets a new interpreter for every
    run, because nothing puts their first values back: `reset_all_variables` is for variable tensors only.
    """

    def __init__(self, path: Path, threads: int) -> None:
        """Raises: ModelError."""
        self.metadata: Mapping[str, str] = {}
        self._path = path
        self._threads = threads
        first = self._interpreter()
        self._free = [first]
        self.signatures: Sequence[str] = tuple(first.get_signature_list())
        self._keeps_state = _may_have_resources(first)
        inputs, outputs = _details(first)
        self._input_index = {name: int(detail["index"]) for name, detail in inputs.items()}
        self._output_index = {name: int(detail["index"]) for name, detail in outputs.items()}
        self.inputs: Sequence[TensorSpec] = [self._spec(name, detail, "input") for name, detail in inputs.items()]
        self.outputs: Sequence[TensorSpec] = [self._spec(name, detail, "output") for name, detail in outputs.items()]

    @property
    def dynamic_batch(self) -> bool:
        """Whether the file declares -1 as the first dimension of every input and output.

        A file that merely accepts a resize may fold the batch into another dimension and answer nonsense.
        """
        return has_dynamic_batch([*self.inputs, *self.outputs])

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run once. Raises: ArgumentError (names, dtypes, shapes), ModelError (the run failed)."""
        check_tensors(self.inputs, tensors)
        for name, array in tensors.items():
            if array.size == 0:
                raise ArgumentError(f"input {name!r} has no elements: its shape is {list(array.shape)}")
        try:
            interpreter = self._free.pop()  # atomic, so no lock
        except IndexError:
            interpreter = self._interpreter()
        try:
            outputs = self._run(interpreter, tensors)
        except (RuntimeError, ValueError) as error:
            # This interpreter is in an unknown state (a failed resize leaves it so): it is not used again.
            raise ModelError(f"{self._path.name} failed: {one_line(error)}") from error
        if not self._keeps_state:
            self._free.append(interpreter)
        return outputs

    def close(self) -> None:
        """Drop the interpreters."""
        self._free.clear()

    def _run(self, interpreter: Any, tensors: Mapping[str, Array]) -> dict[str, Array]:
        if any(-1 in spec.shape for spec in self.inputs):
            self._resize(interpreter, tensors)
        # Variable tensors (of LSTM, SVDF …) start anew; resource variables do not, see `infer`.
        interpreter.reset_all_variables()
        for name, index in self._input_index.items():
            interpreter.set_tensor(index, tensors[name])
        interpreter.invoke()
        # get_tensor copies already; it must stay so, because a view would make the next resize fail.
        return {name: np.asarray(interpreter.get_tensor(index)) for name, index in self._output_index.items()}

    def _resize(self, interpreter: Any, tensors: Mapping[str, Array]) -> None:
        shapes = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_input_details()}
        changed = {
            index: tensors[name].shape for name, index in self._input_index.items() if tensors[name].shape != shapes[index]
        }
        for index, shape in changed.items():
            interpreter.resize_tensor_input(index, shape)
        if changed:
            interpreter.allocate_tensors()

    def _interpreter(self) -> Any:
        try:
            with _native_chatter_off():
                interpreter = Interpreter(str(self._path), num_threads=self._threads)
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._path.name} cannot be loaded: {one_line(error)}", "Is it a whole TFLite file?") from error
        return interpreter

    def _spec(self, name: str, detail: Mapping[str, Any], what: str) -> TensorSpec:
        datatype = NAMES.get(np.dtype(detail["dtype"]))
        if datatype is None or datatype == "BYTES":
            raise ModelError(
                f"{self._path.name}: {what} {name!r} is {np.dtype(detail['dtype'])}", "Only tensors of plain numbers are served"
            )
        # The signature is empty where it says no more than the shape does.
        declared = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
        return TensorSpec(name, datatype, tuple(int(size) for size in declared))


def _may_have_resources(interpreter: Any) -> bool:
    """Whether state may outlast a run. Only the main subgraph's tensors can be listed; resources may hide in another one.

    LiteRT shows a resource tensor as one of Python objects; a string tensor is one of bytes.
    """
    return interpreter.num_subgraphs() > 1 or any(
        np.dtype(detail["dtype"]) == np.object_ for detail in interpreter.get_tensor_details()
    )


_chatter = threading.Lock()  # of two that overlap, the second would keep the null device and put that back


@contextmanager
def _native_chatter_off() -> Iterator[None]:
    """LiteRT greets every delegate on standard error, and no setting stops it. Its failures come as exceptions all the same;
    what another lane logs in these few milliseconds is lost."""
    with _chatter:
        kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _details(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs by name: the signature's names where the file has one signature, else the tensors' own."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        named = runner.get_input_details(), runner.get_output_details()
        if _same_tensors(named[0], inputs) and _same_tensors(named[1], outputs):
            return named
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def _same_tensors(named: Mapping[str, Any], details: Sequence[Mapping[str, Any]]) -> bool:
    return sorted(detail["index"] for detail in named.values()) == sorted(detail["index"] for detail in details)
