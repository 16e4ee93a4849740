"""Which tensor of a model that listens is fed by what."""

from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.wiring import Wiring
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import AudioInput

INPUTS = [TensorSpec("x", "FP32", (-1, -1)), TensorSpec("h", "FP32", (2, -1, 8)), TensorSpec("sr", "INT64", ())]
OUTPUTS = [TensorSpec("p", "FP32", (-1, 1)), TensorSpec("hn", "FP32", (-1, -1, -1))]
WHOLE: dict[str, Any] = {"state": {"h": "hn"}, "constants": {"sr": 16000.0}}


def wired(inputs: list[TensorSpec] = INPUTS, outputs: list[TensorSpec] = OUTPUTS, scores: str = "", **keys: Any) -> Wiring:
    return Wiring(AudioInput(window=10, **{**WHOLE, **keys}), scores, 10, inputs, outputs)


def test_samples_state_and_constants_go_where_they_belong() -> None:
    wiring = wired()
    first = wiring.inputs(np.arange(10, dtype=np.float32), wiring.first_state())
    assert {name: (array.shape, array.dtype.str) for name, array in first.items()} == {
        "x": ((1, 10), "<f4"),
        "h": ((2, 1, 8), "<f4"),
        "sr": ((), "<i8"),
    }
    assert not first["h"].any()
    assert first["sr"] == 16000
    outputs = {"p": np.array([[0.5]], np.float32), "hn": np.ones((2, 1, 8), np.float32)}
    assert wiring.score(outputs) == 0.5
    assert wiring.next_state(outputs)["h"].all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((10,), (10,)),
        ((-1,), (10,)),
        ((1, 1, 10), (1, 1, 10)),
        ((-1, 5, 2), (1, 5, 2)),
        ((-1, 2, -1), (1, 2, 5)),
    ],
)
def test_a_step_takes_the_shape_of_the_input(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    wiring = wired([TensorSpec("x", "FP32", shape), *INPUTS[1:]])
    assert wiring.inputs(np.zeros(10, np.float32), {})["x"].shape == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"input": "y"}, "no input 'y'. Its inputs: 'x' FP32"),
        ({"state": {"g": "hn"}}, "no input 'g'"),
        ({"state": {"h": "gn"}}, "no output 'gn'. Its outputs: 'p' FP32"),
        ({"scores": "q"}, "no output 'q'"),
        ({"state": {}, "scores": "p"}, "has 2 inputs that nothing else feeds"),
        ({"state": {}, "input": "x", "scores": "p"}, "nothing feeds the input 'h'"),
        ({"state": {}, "constants": {"sr": 1.0, "h": 0.0}}, "has 2 outputs that are no state"),
        ({"constants": {"sr": 1.5}}, "cannot make INT64 of 1.5"),
        ({"constants": {"sr": 1e30}}, "is no INT64|cannot make"),
        ({"inputs": [TensorSpec("x", "FP32", (1, 12)), *INPUTS[1:]]}, r"a step is 10 numbers, .* \[1, 12\]"),
        ({"inputs": [TensorSpec("x", "INT16", (1, 10)), *INPUTS[1:]]}, "'x' is INT16"),
        ({"inputs": [INPUTS[0], TensorSpec("h", "FP16", (2, 1, 8)), INPUTS[2]]}, "the state 'h' is FP16"),
        ({"inputs": [INPUTS[0], TensorSpec("h", "FP32", (2**16, 2**16)), INPUTS[2]]}, "At most"),
    ],
)
def test_what_does_not_fit_is_said(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        wired(**arguments)


def test_one_score_is_needed_and_no_number_is_none() -> None:
    assert wired().score({"p": np.array([[np.nan]])}) == 0
    with pytest.raises(ModelError, match="2 values for a step"):
        wired().score({"p": np.zeros((1, 2))})
