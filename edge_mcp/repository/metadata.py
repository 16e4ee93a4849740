"""What a model file says about itself, out of ONNX's custom metadata; texts are cleaned and bounded."""

import re
from collections.abc import Iterable, Mapping

import msgspec

MAX_TEXT = 500
MAX_LABEL = 200
MAX_LABELS = 100_000
NOTHING = "???"
"""Stands for a label without a name, as in the label files of TensorFlow's detectors."""

# The keys in use, the commonest first: Ultralytics, Hugging Face, timm, PaddleOCR.
_LABEL_KEYS = ("names", "labels", "classes", "class_names", "id2label", "label_names", "class_labels", "character")
_TEXT_KEYS = {
    "title": ("title", "model_name", "name"),
    "description": ("description", "onnx.description", "model_description"),
    "author": ("author", "authors"),
    "license": ("license", "licence", "onnx.license"),
    "version": ("version", "model_version"),
    "source": ("source", "url", "homepage", "docs"),
}
# One entry of Python's or JSON's list or dictionary of strings: an optional number, a quoted text, and a comma or the end.
_ENTRY = re.compile(r"""\s*(?:["']?(\d{1,7})["']?\s*:\s*)?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(?:,|$)""", re.DOTALL)


class About(msgspec.Struct, frozen=True):
    """What a model file says about itself; empty where it says nothing.

    `scale` is `(mean, divisor)` of a picture's values from 0 to 255. `inputs` and `outputs` describe the tensors in order.
    `remarks` are what the file says and edge-mcp cannot use.
    """

    title: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    version: str = ""
    source: str = ""
    labels: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None
    threshold: float | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def of_onnx(metadata: Mapping[str, str]) -> About:
    """Out of an ONNX file's custom metadata."""
    found = {name: clean(_first(metadata, keys)) for name, keys in _TEXT_KEYS.items()}
    key = next((key for key in _LABEL_KEYS if metadata.get(key)), "")
    labels = parse_labels(metadata[key]) if key else ()
    remarks = (f"{key} in the file's metadata is no list of labels that can be read",) if key and not labels else ()
    return msgspec.convert({**found, "labels": labels, "remarks": remarks}, About)


def parse_labels(text: str) -> tuple[str, ...]:
    """A JSON or Python list or dictionary of strings, or one label a line, or several between commas; empty if it is none."""
    body = text.strip()
    if body[:1] in ("{", "[") and body[-1:] in ("}", "]"):
        return _entries(body[1:-1])
    if "\n" in body:
        return clean_labels(text.splitlines())  # not stripped: a character that is a label may be white space
    return clean_labels(part.strip() for part in body.split(",")) if "," in body else ()


def clean_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Each on one line, none empty, no more than `MAX_LABELS`."""
    kept: list[str] = []
    for label in labels:
        if len(kept) == MAX_LABELS:
            return ()
        kept.append(clean(label, MAX_LABEL) or (" " if label in (" ", "\u3000") else NOTHING))
    return tuple(kept)


def clean(text: str, most: int = MAX_TEXT) -> str:
    """Printable text on one line, cut after `most` characters."""
    cut = " ".join(text[: 4 * most].split())
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _first(metadata: Mapping[str, str], keys: Iterable[str]) -> str:
    return next((metadata[key] for key in keys if metadata.get(key, "").strip()), "")


def _entries(body: str) -> tuple[str, ...]:
    """`0: 'person', 1: "car"` or `'person', 'car'`; by their numbers, where they have all of 0 to n - 1."""
    numbered: dict[int, str] = {}
    position = 0
    body = body.rstrip().removesuffix(",")
    while position < len(body):
        entry = _ENTRY.match(body, position)
        if entry is None or len(numbered) == MAX_LABELS:
            return ()
        index = int(entry[1]) if entry[1] else len(numbered)
        if index in numbered:
            return ()
        numbered[index] = re.sub(r"\\(.)", r"\1", entry[2][1:-1], flags=re.DOTALL)
        position = entry.end()
    if set(numbered) != set(range(len(numbered))):
        return ()
    return clean_labels(numbered[index] for index in range(len(numbered)))
