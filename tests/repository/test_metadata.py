"""Labels and texts out of ONNX's custom metadata."""

import time

import pytest

from edge_mcp.repository.metadata import MAX_LABEL, MAX_LABELS, About, clean, of_onnx, parse_labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{0: 'person', 1: 'bicycle'}", ("person", "bicycle")),
        ("{1: 'bicycle', 0: 'person'}", ("person", "bicycle")),
        ('{"0": "person", "1": "bicycle"}', ("person", "bicycle")),
        ('["a", "b c", "d\\"e"]', ("a", "b c", 'd"e')),
        ("['it''s']", ()),
        ("['it\\'s', 'b',]", ("it's", "b")),
        ("red, green,blue", ("red", "green", "blue")),
        ("red\ngreen\n\nblue", ("red", "green", "???", "blue")),
        (" \na\nb", (" ", "a", "b")),
        ("one", ()),
        ("", ()),
        ("{0: 'a', 2: 'b'}", ()),
        ("{0: 'a', 0: 'b'}", ()),
        ("[1, 2]", ()),
        ("{0: __import__('os').system('true')}", ()),
        ("['a'", ()),
    ],
)
def test_labels_are_read_however_they_are_written(text: str, labels: tuple[str, ...]) -> None:
    assert parse_labels(text) == labels


def test_what_the_usual_keys_say_is_found() -> None:
    said = of_onnx(
        {
            "names": "{0: 'cat', 1: 'dog'}",
            "author": "Ultralytics",
            "license": "AGPL-3.0",
            "version": "8.2.0",
            "description": "Finds\nthings",
            "docs": "https://example.org",
        }
    )
    assert said == About(
        description="Finds things",
        author="Ultralytics",
        license="AGPL-3.0",
        version="8.2.0",
        source="https://example.org",
        labels=("cat", "dog"),
    )


def test_labels_that_cannot_be_read_are_a_remark() -> None:
    assert "names in the file's metadata" in of_onnx({"names": "[[1]]"}).remarks[0]


def test_a_label_has_one_line_and_an_end() -> None:
    assert parse_labels('["a\\nb\\u001b", "' + "x" * 10_000 + '"]')[1] == "x" * (MAX_LABEL - 1) + "…"
    assert all(label.isprintable() for label in parse_labels("['a\x00\x1b[0m', 'b\r\nc']"))


def test_too_many_labels_are_none() -> None:
    assert parse_labels("\n".join(map(str, range(MAX_LABELS + 1)))) == ()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000 + "]" * 200_000,
        "['" + "\\" * 200_000 + "']",
        "[" + "'a'," * 200_000 + "]",
        "{" + "0:" * 100_000 + "}",
        "'" * 250_000,
    ],
)
def test_nothing_takes_long(text: str) -> None:
    began = time.process_time()
    parse_labels(text)
    clean(text)
    assert time.process_time() - began < 2
