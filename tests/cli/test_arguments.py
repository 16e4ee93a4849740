"""`key=value` becomes what the tool's inputSchema wants."""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.cli.arguments import converted, given, pair
from edge_mcp.errors import ArgumentError

TENSOR = {"anyOf": [{"type": ["array", "number", "boolean", "string"]}, {"type": "object"}]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "image": {"type": "string", "contentEncoding": "base64"},
        "number": {"type": "number"},
        "integer": {"type": "integer"},
        "boolean": {"type": "boolean"},
        "array": {"type": "array"},
        "object": {"type": "object"},
        "tensor": TENSOR,
        "encoding": {"enum": ["base64", "list"]},
    },
    "additionalProperties": False,
}


def convert(*words: str, schema: dict[str, Any] = SCHEMA) -> dict[str, Any]:
    return converted(given([pair(word) for word in words]), schema, "the_tool")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=5", "5"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("text=@@home", "@home"),
        ("image=aGk=", "aGk="),
        ("number=0.5", 0.5),
        ("number=2", 2),
        ("integer=2", 2),
        ("boolean=true", True),
        ("array=[1,2]", [1, 2]),
        ('object={"a":1}', {"a": 1}),
        ("tensor=[[1.5]]", [[1.5]]),
        ("tensor=3", 3),
        ('tensor={"dtype":"FP32","shape":[0],"data":""}', {"dtype": "FP32", "shape": [0], "data": ""}),
        ("encoding=list", "list"),
    ],
)
def test_values_get_the_type_that_the_schema_says(word: str, value: Any) -> None:
    assert list(convert(word).values()) == [value]


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("number=abc", "number is 'abc'. Write a number, such as 0.5"),
        ("number=true", "number is 'true'. Write a number, such as 0.5"),
        ("integer=1.5", "integer is '1.5'. Write a whole number"),
        ("integer=true", "integer is 'true'. Write a whole number"),
        ("boolean=yes", "boolean is 'yes'. Write true or false"),
        ("boolean=1", "boolean is '1'. Write true or false"),
        ("array={}", "array is '{}'. Write a JSON array, such as [1, 2]"),
        ("object=[]", "object is '[]'. Write a JSON object, such as {\"a\": 1}"),
        ("tensor=[[1", "tensor is '[[1'. Write it as JSON"),
        ("imag=x", "the_tool has no argument 'imag'. Did you mean 'image'? It has: text, image, number"),
        ("zzz=x", "the_tool has no argument 'zzz'. It has: text"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(word: str, error: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        convert(word)
    assert str(caught.value).startswith(error)


def test_the_file_of_a_base64_argument_is_encoded(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x00\xff")
    assert base64.b64decode(convert(f"image=@{tmp_path / 'x'}")["image"]) == b"\x00\xff"


def test_the_file_of_a_text_argument_is_its_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("Grüße\n", "utf-8")
    assert convert(f"text=@{tmp_path / 'x'}") == {"text": "Grüße\n"}


def test_the_file_of_any_other_argument_is_its_json(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[[1, 2]]\n")
    assert convert(f"tensor=@{tmp_path / 'x'}") == {"tensor": [[1, 2]]}


def test_a_file_that_is_no_text_is_refused_where_text_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(ArgumentError, match="text: the file is no text in UTF-8"):
        convert(f"text=@{tmp_path / 'x'}")


def test_a_minus_sign_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe")))
    assert convert("text=@-") == {"text": "from a pipe"}


@pytest.mark.parametrize(("name", "reason"), [("nope", "No such file or directory"), (".", "Is a directory"), ("a\0b", "null")])
def test_a_file_that_cannot_be_read_is_named(name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError) as caught:
        convert(f"image=@{name}")
    assert str(caught.value).startswith(f"image: the file {name!r} cannot be read: ")
    assert reason in str(caught.value)


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(ArgumentError, match="text is given twice"):
        convert("text=a", "text=b")


def test_an_argument_that_is_missing_is_named() -> None:
    schema = {**SCHEMA, "required": ["image"]}
    with pytest.raises(ArgumentError, match=r"the_tool needs the argument 'image'\. Write image=@FILE"):
        convert("text=a", schema=schema)


def test_a_tool_that_takes_anything_is_given_it() -> None:
    assert convert("a=1", 'b="x"', schema={"type": "object", "additionalProperties": True}) == {"a": 1, "b": "x"}
