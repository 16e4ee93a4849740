"""Arguments are checked against the schema, and each complaint says what would be right."""

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.engine.host.validate import validate
from edge_mcp.errors import ArgumentError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "image": {"type": "string"},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.4},
        "max_results": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
        "annotate": {"type": "boolean", "default": False},
        "encoding": {"enum": ["base64", "list"]},
        "tensor": {
            "anyOf": [
                {"type": ["array", "number"]},
                {
                    "type": "object",
                    "properties": {
                        "dtype": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    },
                    "required": ["dtype", "shape"],
                    "additionalProperties": False,
                },
            ]
        },
    },
    "required": ["image"],
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TENSORS = st.fixed_dictionaries({"dtype": JSON, "shape": JSON | st.lists(JSON, max_size=3)})


def test_defaults_are_filled_in() -> None:
    assert validate(SCHEMA, {"image": "x"}) == {"image": "x", "threshold": 0.4, "max_results": 20, "annotate": False}


def test_integral_floats_are_integers() -> None:
    checked = validate(SCHEMA, {"image": "x", "max_results": 5.0, "tensor": {"dtype": "FP32", "shape": [2.0]}})
    assert checked["max_results"] == 5
    assert isinstance(checked["max_results"], int)
    assert isinstance(checked["tensor"]["shape"][0], int)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "argument image is missing. The arguments are image, threshold (optional)"),
        ({"imag": "x"}, "argument image is missing"),
        ({"image": "x", "treshold": 1}, 'there is no argument "treshold". Did you mean threshold? The arguments are image,'),
        ({"image": "x", "zzz": 1}, 'there is no argument "zzz". The arguments are image,'),
        ({"image": None}, "argument image must be a string, not null"),
        ({"image": ["x"]}, "argument image must be a string, not a list of 1"),
        ({"image": "x", "threshold": "0.5"}, 'argument threshold must be a number, not "0.5"'),
        ({"image": "x", "threshold": True}, "argument threshold must be a number, not true"),
        ({"image": "x", "threshold": 1.5}, "argument threshold must be at most 1, not 1.5"),
        ({"image": "x", "max_results": 0}, "argument max_results must be at least 1, not 0"),
        ({"image": "x", "max_results": 2.5}, "argument max_results must be an integer, not 2.5"),
        ({"image": "x", "annotate": 1}, "argument annotate must be true or false, not 1"),
        ({"image": "x", "encoding": "hex"}, 'argument encoding must be one of "base64", "list", not "hex"'),
        ({"image": "x", "tensor": "1"}, 'argument tensor must be a list or a number or an object, not "1"'),
        ({"image": "x", "tensor": {"dtype": "FP32"}}, "argument tensor.shape is missing. The arguments are dtype, shape"),
        ({"image": "x", "tensor": {"dtype": 1, "shape": []}}, "argument tensor.dtype must be a string, not 1"),
        ({"image": "x", "tensor": {"dtype": "", "shape": [1, -1]}}, "argument tensor.shape[1] must be at least 0, not -1"),
        ({"image": "x", "tensor": {"dtype": "", "shape": [], "x": 1}}, 'there is no argument "tensor.x"'),
        ("image", 'the arguments must be an object, not "image"'),
    ],
)
def test_complaints(arguments: Any, said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        validate(SCHEMA, arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize("arguments", [{"y" * 10**6: 1}, {"threshold": "z" * 10**6}, {"encoding": "\0" * 10**6}])
def test_megabytes_are_not_echoed(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError) as caught:
        validate(SCHEMA, {"image": "x", **arguments})
    assert len(str(caught.value)) < 400


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*SCHEMA["properties"], "other"], JSON | TENSORS)))
def test_agrees_with_a_full_validator(arguments: dict[str, Any]) -> None:
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(arguments)
    try:
        checked = validate(SCHEMA, arguments)
    except ArgumentError:
        assert not valid
    else:
        assert valid
        plain = {name: value for name, value in arguments.items() if not isinstance(value, dict | list)}
        assert checked.items() >= plain.items()
