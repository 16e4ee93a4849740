"""A model under comparison: what it makes of each sample, from the tool's own answer down to the tensors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_mcp.engine.host.parts import load_part
from edge_mcp.engine.host.quantized import RealValues
from edge_mcp.engine.host.runtimes.base import DATATYPES, Array, LoadedModel
from edge_mcp.engine.host.runtimes.checks import takes
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.messages import Item, ModelSpec, TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.workshop.recorder import Log, Run, recorded
from edge_mcp.workshop.samples import Sample


class Seen(msgspec.Struct):
    """Of one sample: the tool's answer (none of a tensor tool), and the runs that it took, inputs and outputs."""

    name: str
    answer: dict[str, Any]
    runs: list[Run]


class Subject:
    """A model, loaded as the engine loads it."""

    def __init__(self, spec: ModelSpec) -> None:
        """Raises: ModelError."""
        self._log = Log()
        part = load_part(spec.manifest, Path(spec.folder), self._watched(spec))
        self._model = part.model
        self._served = ServedModel(part.model, part.modality, part.decoder, spec.schema, part.batches)
        self.inputs: Sequence[TensorSpec] = part.model.inputs
        self.outputs: Sequence[TensorSpec] = part.model.outputs
        self._wired = tuple(getattr(spec.manifest.input, "state", {}).values())
        self._defaults = {"threshold": 0.0} if spec.manifest.output.__struct_config__.tag == "softmax" else {}

    def see(self, samples: Sequence[Sample]) -> list[Seen]:
        """Run each, in order. Raises: ModelError when one cannot be run."""
        return [self._see(sample) for sample in samples]

    def close(self) -> None:
        """Give the memory back."""
        self._served.close()

    def _watched(self, spec: ModelSpec) -> Callable[[LoadedModel], LoadedModel]:
        """Reals on both sides: a quantized candidate may take and answer integers that stand for them."""
        with_tensors = isinstance(spec.manifest.input, TensorInput)
        return lambda model: recorded(RealValues(model) if with_tensors else model, self._log)

    def _see(self, sample: Sample) -> Seen:
        self._log.on = True
        try:
            answer = self._call(sample) if sample.arguments else self._step_by_step(sample)
        finally:
            self._log.on = False
        return Seen(sample.name, answer, self._log.taken())

    def _call(self, sample: Sample) -> dict[str, Any]:
        arguments = {**msgspec.json.decode(sample.arguments), **self._defaults}
        (outcome,), _ = self._served.run([Item(msgspec.json.encode(arguments))], lambda stage: None)
        if outcome.error:
            raise ModelError(f"the sample {sample.name} cannot be run: {outcome.error}", "Leave it out, or mend it")
        answer: dict[str, Any] = msgspec.json.decode(outcome.structured)
        return answer

    def _step_by_step(self, sample: Sample) -> dict[str, Any]:
        """An input that the sample leaves out is state: it begins with zeros, and takes the output of its shape then."""
        given = set(sample.steps[0])
        state = self.state(given)
        carried: dict[str, Any] = {spec.name: _zeros(spec) for spec in self.inputs if spec.name in state}
        for step in sample.steps:
            outputs = self._model.infer({**step, **carried})
            carried = {name: np.asarray(outputs[source]) for name, source in state.items()}
        return {}

    @property
    def wired(self) -> tuple[str, ...]:
        """The outputs that the manifest calls state."""
        return self._wired

    def state(self, given: set[str]) -> dict[str, str]:
        """Input -> the output that it takes, for those that are not given. Raises: ModelError."""
        state: dict[str, str] = {}
        for spec in self.inputs:
            if spec.name in given:
                continue
            alike = [one.name for one in self.outputs if one.datatype == spec.datatype and takes(one, spec.shape)]
            sure = [name for name in alike if name.startswith(spec.name) or spec.name.startswith(name)] or alike
            if len(sure) != 1:
                hint = "An input may be left out only if it is state: if there is one output of its name and shape"
                raise ModelError(f"the samples have no {spec.name!r}", hint)
            state[spec.name] = sure[0]
        return state


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros([1 if size == -1 else size for size in spec.shape], DATATYPES[spec.datatype])
