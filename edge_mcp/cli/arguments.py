"""`key=value` on the command line, turned into a tool's arguments by its inputSchema."""

import base64
import math
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.errors import ArgumentError

_KINDS: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_HINTS = {
    "number": "Write a number, such as 0.5",
    "integer": "Write a whole number",
    "boolean": "Write true or false",
    "array": "Write a JSON array, such as [1, 2]",
    "object": 'Write a JSON object, such as {"a": 1}',
}

Given = str | bytes
"""A value as it stood on the command line, or the content of the file that it named."""


def pair(word: str) -> tuple[str, str]:
    """Split `key=value`. Raises: ArgumentTypeError (for argparse)."""
    key, equals, text = word.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"{word!r} is neither key=value nor key=@FILE")
    return key, text


def seconds(word: str) -> float:
    """A time to wait. Raises: ArgumentTypeError (for argparse)."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{word!r} is no number of seconds above 0, such as 2.5")
    return value


def given(pairs: Sequence[tuple[str, str]]) -> dict[str, Given]:
    """The values by key; `@FILE` is read, `@-` is standard input, `@@x` stands for `@x`. Raises: ArgumentError."""
    values: dict[str, Given] = {}
    for key, text in pairs:
        if key in values:
            raise ArgumentError(f"{key} is given twice", "Give it once")
        values[key] = _value(key, text)
    return values


def _value(key: str, text: str) -> Given:
    if not text.startswith("@"):
        return text
    if text.startswith("@@"):
        return text[1:]
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ArgumentError(f"{key}: the file {text[1:]!r} cannot be read: {reason}") from error


def converted(values: Mapping[str, Given], schema: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """The arguments as the tool's `inputSchema` wants them. Raises: ArgumentError."""
    properties: Mapping[str, Any] = schema.get("properties") or {}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key in properties:
            arguments[key] = _converted(key, value, properties[key])
        elif schema.get("additionalProperties"):
            arguments[key] = _converted(key, value, {})
        else:
            raise ArgumentError(f"{tool} has no argument {key!r}", nearest(key, list(properties), "It has"))
    for key in schema.get("required") or ():
        if key not in values:
            raise ArgumentError(f"{tool} needs the argument {key!r}", _way_to_give(key, properties.get(key)))
    return arguments


def nearest(name: str, known: Sequence[str], there: str) -> str:
    """A hint: what may have been meant, and what there is."""
    near = get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    return f"{meant}{there}: {', '.join(known) or 'none'}"


def _way_to_give(key: str, schema: Any) -> str:
    return f"Write {key}=@FILE" if isinstance(schema, dict) and schema.get("contentEncoding") else f"Write {key}=VALUE"


def _converted(key: str, value: Given, schema: Any) -> Any:
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, bytes):
        if schema.get("contentEncoding") == "base64":
            return base64.b64encode(value).decode("ascii")
        value = _decoded(key, value)
    kind = schema.get("type")
    if kind == "string" or (kind is None and "enum" in schema):
        return value
    return _from_json(key, value, kind)


def _decoded(key: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ArgumentError(f"{key}: the file is no text in UTF-8", "Convert it first") from None


def _from_json(key: str, text: str, kind: Any) -> Any:
    """A value that is no plain string; of what a union of types allows, the server decides."""
    wanted = _KINDS.get(str(kind), (object,))
    try:
        value = msgspec.json.decode(text)
        fits = isinstance(value, wanted) and not (isinstance(value, bool) and wanted in (_KINDS["number"], _KINDS["integer"]))
    except (msgspec.DecodeError, RecursionError):
        fits = False
    if not fits:
        raise ArgumentError(f"{key} is {text[:60]!r}", _HINTS.get(str(kind), "Write it as JSON"))
    return value
