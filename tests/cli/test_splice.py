"""An entry put into somebody else's JSON: it is there, and nothing else is another."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.cli.splice import spliced

PATH = ("mcpServers", "kitchen")
VALUE = {"command": "edge-mcp", "args": ["connect", "kitchen"]}
KEYS = st.text(max_size=5) | st.sampled_from(PATH)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def test_an_empty_file_becomes_an_object() -> None:
    assert json.loads(spliced(" \n", PATH, VALUE)) == {"mcpServers": {"kitchen": VALUE}}


def test_it_is_written_as_the_rest_is() -> None:
    before = '{\n    "theme": "dark",\n    "mcpServers": {\n        "a": {"n": 1.0, "big": 12345678901234567890123}\n    }\n}\n'
    after = spliced(before, PATH, {"command": "x"})
    assert after == before.replace("890123}\n", '890123},\n        "kitchen": {\n          "command": "x"\n        }\n')
    assert spliced(after, PATH, {"command": "x"}) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("{}", '{\n  "a": 1\n}'),
        ('{"b": 2}', '{"b": 2, "a": 1}'),
        ('{"a": [1,\n2], "b":2}', '{"a": 1, "b":2}'),
        ('\t{\n\t"b": "}" }', '\t{\n\t"b": "}",\n\t"a": 1 }'),
        ('{"\\u0061": 0}', '{"\\u0061": 1}'),
    ],
)
def test_all_else_stays_byte_by_byte(text: str, after: str) -> None:
    assert spliced(text, ("a",), 1) == after


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "it is no object"),
        ('{"mcpServers": []}', "it is no object"),
        ('{"mcpServers": {}, "mcpServers": {}}', "it has 'mcpServers' twice"),
        ("{} // a comment", "there is more after the end"),
        ('{ // a comment\n"a": 1}', "it is no JSON: .* in line 1"),
        ('{"a": 1,}', "it is no JSON"),
        ("nonsense", "it is no JSON"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        spliced(text, PATH, VALUE)


@given(st.dictionaries(KEYS, JSON, max_size=4), st.sampled_from([None, 1, 4, "\t"]), st.booleans())
def test_whatever_was_there_is_there_afterwards(there: dict[str, Any], indent: Any, plain: bool) -> None:
    text = json.dumps(there, indent=indent, ensure_ascii=plain)
    servers = there.get("mcpServers", {})
    if not isinstance(servers, dict):
        with pytest.raises(ValueError, match="no object"):
            spliced(text, PATH, VALUE)
        return
    after = spliced(text, PATH, VALUE)
    assert json.loads(after) == {**there, "mcpServers": {**servers, "kitchen": VALUE}}
    assert spliced(after, PATH, VALUE) == after


@given(st.text(max_size=60))
def test_any_text_is_refused_or_stays_json(text: str) -> None:
    try:
        after = spliced(text, PATH, VALUE)
    except ValueError:
        return
    assert json.loads(after)["mcpServers"]["kitchen"] == VALUE
