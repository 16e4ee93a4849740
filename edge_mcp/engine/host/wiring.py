"""What goes into which input of a model that listens, and what comes out where."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import numpy as np

from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, Value
from edge_mcp.engine.host.runtimes.checks import shown, shown_shape
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import AudioInput

_MAX_STATE = 16 * 1024 * 1024  # elements; a stream keeps them


class Wiring:
    """By a manifest's `input`, `state`, `constants` and `scores`. Sizes that a file leaves open are 1."""

    def __init__(
        self, config: AudioInput, scores: str, size: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        """`size` is how many numbers a step is. Raises: ModelError when the model has other tensors than the manifest says."""
        given, answered = {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs}
        for what, names, known in (
            ("input", [config.input] if config.input else [], given),
            ("input", [*config.state, *config.constants], given),
            ("output", [*config.state.values(), *([scores] if scores else [])], answered),
        ):
            for name in names:
                if name not in known:
                    raise ModelError(f"the model has no {what} {shown(name)}", f"Its {what}s: {_listed(known.values())}")
        fed = {*config.state, *config.constants}
        sound = [given[config.input]] if config.input else [spec for spec in inputs if spec.name not in fed]
        self._input = _only(sound, "inputs that nothing else feeds", "input.input", inputs)
        left = set(given) - {self._input.name} - fed
        if left:
            raise ModelError(f"nothing feeds the input {shown(min(left))}", "Name it in input.state or input.constants")
        states = set(config.state.values())
        score = [answered[scores]] if scores else [spec for spec in outputs if spec.name not in states]
        self._score = _only(score, "outputs that are no state", "output.scores", outputs).name
        self._shape = _shape(self._input, size)
        self._zeros = {name: _zeros(given[name], answered[source]) for name, source in config.state.items()}
        self._sources = dict(config.state)
        self._constants = {name: _constant(given[name], value) for name, value in config.constants.items()}

    def first_state(self) -> dict[str, Array]:
        """Zeros."""
        return dict(self._zeros)

    def inputs(self, step: Array, state: Mapping[str, Array]) -> dict[str, Array]:
        """The tensors of a step, of `step` float32 [size]."""
        return {self._input.name: step.reshape(self._shape).astype(np.float32), **self._constants, **state}

    def next_state(self, outputs: Mapping[str, Value]) -> dict[str, Array]:
        """The state after a step."""
        return {name: np.asarray(outputs[source]) for name, source in self._sources.items()}

    def score(self, outputs: Mapping[str, Value]) -> float:
        """The step's score; no number counts as 0. Raises: ModelError when there are several."""
        values = np.asarray(outputs[self._score])
        if values.size != 1:
            raise ModelError(f"the output {shown(self._score)} has {values.size} values for a step", "One score is needed")
        return float(np.nan_to_num(values.reshape(-1)[0]))


def _only(specs: Sequence[TensorSpec], what: str, key: str, all_of_them: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        raise ModelError(f"the model has {len(specs)} {what}, not one", f"Name it in {key}, of {_listed(all_of_them)}")
    if not specs[0].datatype.startswith("FP"):
        raise ModelError(f"{shown(specs[0].name)} is {specs[0].datatype}", "Sound and scores are reals")
    return specs[0]


def _shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """The shape of a step: of the sizes that are left open the last one takes what is needed, others are 1."""
    shape = list(spec.shape)
    if spec.any_rank:
        return (1, size)
    if -1 in shape:
        last = len(shape) - 1 - shape[::-1].index(-1)
        shape = [1 if one == -1 else one for one in shape]
        shape[last] = size // max(prod(shape), 1)
    if prod(shape) != size:
        raise ModelError(
            f"a step is {size} numbers, but the input {shown(spec.name)} has shape {list(spec.shape)}",
            "Change input.window or input.context",
        )
    return tuple(shape)


def _zeros(spec: TensorSpec, source: TensorSpec) -> Array:
    if spec.datatype != source.datatype:
        raise ModelError(
            f"the state {shown(spec.name)} is {spec.datatype}, but the output {shown(source.name)} is {source.datatype}",
            "An input can be fed by an output of its own type",
        )
    return _filled(spec, 0)


def _constant(spec: TensorSpec, value: float) -> Array:
    if spec.datatype == "BYTES" or (not spec.datatype.startswith("FP") and value != int(value)):
        raise ModelError(
            f"input.constants cannot make {spec.datatype} of {value:g} for {shown(spec.name)}", "Write a number that fits"
        )
    return _filled(spec, value)


def _filled(spec: TensorSpec, value: float) -> Array:
    shape = [1 if size == -1 else size for size in spec.shape]
    if prod(shape) > _MAX_STATE:
        raise ModelError(f"the input {shown(spec.name)} has {prod(shape)} elements", f"At most {_MAX_STATE} are kept")
    dtype = DATATYPES[spec.datatype]
    try:
        return np.full(shape, dtype.type(value), dtype)
    except (OverflowError, ValueError) as error:
        raise ModelError(f"{value:g} is no {spec.datatype}, which {shown(spec.name)} is", "Write a number that fits") from error


def _listed(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{shown(spec.name)} {spec.datatype} {shown_shape(spec.shape)}" for spec in specs)
