"""Arguments have names that hosts take, each another, and the model's own where that will do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.engine.messages import TensorSpec
from edge_mcp.engine.naming import RESERVED, argument_names


def named(*names: str) -> tuple[str, ...]:
    return argument_names([TensorSpec(name, "FP32", (1,)) for name in names])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "input_ids", "a.b-c"], ("x", "input_ids", "a.b-c")),
        (["input:0"], ("input_0",)),
        (["input:0", "input_0"], ("input_0_2", "input_0")),
        (["a b", "a/b", "a_b"], ("a_b_2", "a_b_3", "a_b")),
        (["serving_default_x:0", "ü", "", "///"], ("serving_default_x_0", "input", "input_2", "input_3")),
        (["encoding", "dequantize"], ("encoding_2", "dequantize_2")),
        (["n" * 65536, "n" * 65537], ("n" * 64, "n" * 62 + "_2")),
    ],
)
def test_names(names: list[str], expected: tuple[str, ...]) -> None:
    assert named(*names) == expected


@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
def test_any_names(names: list[str]) -> None:
    answered = named(*names)
    assert len(set(answered)) == len(names)
    assert not RESERVED & set(answered)
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name) for name in answered)
    assert all(one == other for one, other in zip(names, answered, strict=True) if re.fullmatch(r"[A-Za-z]{9,64}", one))
