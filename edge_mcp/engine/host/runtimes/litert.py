"""LiteRT (TFLite) models, with the default XNNPACK delegate; the only module that imports `ai_edge_litert`."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge_mcp.engine.host.runtimes.axes import Axes, alike, declared_axes
from edge_mcp.engine.host.runtimes.base import Array, RuntimeOptions, Value
from edge_mcp.engine.host.runtimes.checks import check_signature, check_tensors, one_line, shown
from edge_mcp.engine.host.runtimes.litert_details import (
    Details,
    check_packed,
    chosen_signature,
    main_details,
    may_keep_state,
    same_tensors,
    specs,
)
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError, ModelError


class LitertRuntime:
    """Loads `.tflite` files."""

    suffixes = frozenset({".tflite"})

    def load(self, path: Path, options: RuntimeOptions) -> "LitertModel":
        """Load by path. Raises: ModelError."""
        return LitertModel(path, options.threads, options.signature)


class LitertModel:
    """A pool of interpreters: one cannot run twice at once, so each concurrent run takes its own.

    A tool's answer depends on its arguments alone. A file that may have resource variables gets a new interpreter for every
    run, because nothing puts their first values back: `reset_all_variables` is for variable tensors only.
    """

    def __init__(self, path: Path, threads: int, signature: str = "") -> None:
        """Serve the signature of that name. Raises: ModelError."""
        self.metadata: Mapping[str, str] = {}
        self._path = path
        self._threads = threads
        first = self._opened()
        self.signatures: Sequence[str] = tuple(first.get_signature_list())
        self._signature = chosen_signature(path.name, self.signatures, signature)
        try:
            inputs, outputs = self._details(first)
        except (RuntimeError, ValueError) as error:
            raise self._unloadable(error) from error  # a signature that names tensors which are not there
        self.inputs: Sequence[TensorSpec] = specs(path.name, inputs, "input")
        self.outputs: Sequence[TensorSpec] = specs(path.name, outputs, "output")
        check_packed(path, inputs, outputs)
        check_signature(path.name, self.inputs, self.outputs)  # before memory is taken for them
        self._input_index = {name: int(detail["index"]) for name, detail in inputs.items()}
        self._output_index = {name: int(detail["index"]) for name, detail in outputs.items()}
        self._strings = {spec.name for spec in [*self.inputs, *self.outputs] if spec.datatype == "BYTES"}
        self._keeps_state = may_keep_state(first)
        self._allocate(first)
        self._free = [first]

    @property
    def batch_axes(self) -> Sequence[Axes]:
        """Among the dimensions that the file declares as -1.

        A file that merely accepts a resize may fold the batch into another dimension and answer nonsense.
        """
        return declared_axes(self.inputs, self.outputs, alike(self.inputs), alike(self.outputs))

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """Run once. Raises: ArgumentError (names, dtypes, shapes), ModelError (the run failed)."""
        check_tensors(self.inputs, tensors)
        for name, array in tensors.items():
            if array.size == 0:
                raise ArgumentError(f"input {shown(name)} has no elements: its shape is {list(array.shape)}")
        try:
            interpreter = self._free.pop()  # atomic, so no lock
        except IndexError:
            interpreter = self._allocate(self._opened())
        try:
            outputs = self._run(interpreter, {name: self._native(name, array) for name, array in tensors.items()})
        except (RuntimeError, ValueError) as error:
            # This interpreter is in an unknown state (a failed resize leaves it so): it is not used again.
            raise ModelError(f"{self._path.name} failed: {one_line(error)}") from error
        if not self._keeps_state:
            self._free.append(interpreter)
        return {name: _texts(array) if name in self._strings else array for name, array in outputs.items()}

    def session(self) -> "LitertSession":
        """See KeepsState. Raises: ModelError."""
        return LitertSession(self, self._allocate(self._opened()))

    def infer_in(self, interpreter: Any, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """Run once in an interpreter of this model, whose variables keep their values. Raises: ArgumentError, ModelError."""
        check_tensors(self.inputs, tensors)
        try:
            outputs = self._run(interpreter, {name: self._native(name, array) for name, array in tensors.items()}, False)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._path.name} failed: {one_line(error)}") from error
        return {name: _texts(array) if name in self._strings else array for name, array in outputs.items()}

    def close(self) -> None:
        """Drop the interpreters."""
        self._free.clear()

    def _run(self, interpreter: Any, tensors: Mapping[str, Array], anew: bool = True) -> dict[str, Array]:
        if anew:
            # Variable tensors (of LSTM, SVDF …) start anew; resource variables do not, see `infer`.
            interpreter.reset_all_variables()
        if self._has_runner:
            # It copies what it answers.
            found = interpreter.get_signature_runner(self._signature)(**tensors)
            return {name: np.asarray(found[name]) for name in self._output_index}
        if any(-1 in spec.shape for spec in self.inputs):
            self._resize(interpreter, tensors)
        for name, index in self._input_index.items():
            interpreter.set_tensor(index, tensors[name])
        interpreter.invoke()
        return {name: _copied(interpreter, index) for name, index in self._output_index.items()}

    def _resize(self, interpreter: Any, tensors: Mapping[str, Array]) -> None:
        shapes = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_input_details()}
        changed = {
            index: tensors[name].shape for name, index in self._input_index.items() if tensors[name].shape != shapes[index]
        }
        for index, shape in changed.items():
            interpreter.resize_tensor_input(index, shape)
        if changed:
            interpreter.allocate_tensors()

    def _details(self, interpreter: Any) -> tuple[Details, Details]:
        """Under the signature's names. One that is not the file's main graph is run by LiteRT's own runner."""
        main = main_details(interpreter)
        self._has_runner = False
        if not self._signature:
            return main
        runner = interpreter.get_signature_runner(self._signature)
        named: tuple[Details, Details] = (runner.get_input_details(), runner.get_output_details())
        whole = same_tensors(named[0], main[0]) and same_tensors(named[1], main[1])
        if len(self.signatures) == 1 and not whole and interpreter.num_subgraphs() == 1:
            return main  # a signature that leaves out a part of the file's only graph
        self._has_runner = len(self.signatures) > 1 or not whole
        if self._has_runner and "self" in named[0]:
            raise ModelError(
                f"{self._path.name}: an input of the signature is called 'self'", "LiteRT cannot be given that one"
            )
        return named

    def _native(self, name: str, array: Array) -> Array:
        """Strings as LiteRT takes them."""
        if name not in self._strings:
            return array
        return np.array([text.encode() for text in array.flat], object).reshape(array.shape)

    def _opened(self) -> Any:
        try:
            with _native_chatter_off():
                return Interpreter(str(self._path), num_threads=self._threads)
        except (RuntimeError, ValueError) as error:
            raise self._unloadable(error) from error

    def _allocate(self, interpreter: Any) -> Any:
        try:
            with _native_chatter_off():
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise self._unloadable(error) from error
        return interpreter

    def _unloadable(self, error: Exception) -> ModelError:
        hint = "Is it a whole TFLite file?" if "Flatbuffer" in str(error) else ""
        return ModelError(f"{self._path.name} cannot be loaded: {one_line(error)}", hint)


def _copied(interpreter: Any, index: int) -> Array:
    """An output. get_tensor copies already; it must stay so, because a view would make the next resize fail."""
    try:
        return np.asarray(interpreter.get_tensor(index))
    except ValueError:
        # Of what has no elements, such as the boxes of nothing, LiteRT says that its size is invalid.
        detail = next(detail for detail in interpreter.get_output_details() if detail["index"] == index)
        if 0 not in detail["shape"]:
            raise
        return np.empty(detail["shape"], detail["dtype"])


class LitertSession:
    """One interpreter, for runs that belong together; see LoadedModel."""

    def __init__(self, model: LitertModel, interpreter: Any) -> None:
        self._model = model
        self._interpreter = interpreter
        self.inputs: Sequence[TensorSpec] = model.inputs
        self.outputs: Sequence[TensorSpec] = model.outputs
        self.metadata: Mapping[str, str] = model.metadata
        self.signatures: Sequence[str] = model.signatures
        self.batch_axes: Sequence[Axes] = ()

    def infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Value]:
        """See LoadedModel; its state is that of the runs before."""
        return self._model.infer_in(self._interpreter, tensors)

    def close(self) -> None:
        """Drop the interpreter."""
        self._interpreter = None


def _texts(array: Array) -> Array:
    """Strings as the rest of the engine has them; what is not UTF-8 in them is replaced."""
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in array.flat]
    return np.array(texts, object).reshape(array.shape)


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
