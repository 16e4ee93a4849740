"""What is written as TOML is read back as the same."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.repository import toml

PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
KEYS = st.text(st.characters(codec="utf-8"), min_size=0, max_size=10)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_a_table_is_read_back_as_the_same(entries: dict[str, Any]) -> None:
    assert tomllib.loads(toml.table("a", entries)) == {"a": entries}
    assert tomllib.loads(toml.table("a", entries, array=True)) == {"a": [entries]}


@pytest.mark.parametrize("text", ['"', '"""', "\\", '\\"\n[resources]\nthreads = 64', "\x00\x1b\x7f\u2028", "# no comment"])
def test_no_text_ends_its_own_quotes(text: str) -> None:
    assert tomllib.loads(f"a = {toml.value(text)}\nb = 1") == {"a": text, "b": 1}


def test_half_a_pair_of_surrogates_is_replaced() -> None:
    assert tomllib.loads(f"a = {toml.value('x' + chr(0xD800))}") == {"a": "x\N{REPLACEMENT CHARACTER}"}


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        toml.value(None)
