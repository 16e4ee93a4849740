"""Writes TOML 1.0: what tomllib reads back as the same, whatever the texts in it are."""

import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def value(content: Any) -> str:
    """A value on one line. Raises: TypeError for what TOML has no notation for."""
    match content:
        case bool():
            return "true" if content else "false"
        case str():
            return f'"{"".join(map(_escaped, content))}"'
        case int():
            return str(content)
        case float():
            return repr(content) if math.isfinite(content) else f"{content:f}"
        case list() | tuple():
            return f"[{', '.join(map(value, content))}]"
        case Mapping():
            entries = ", ".join(f"{key(name)} = {value(entry)}" for name, entry in content.items())
            return f"{{ {entries} }}" if entries else "{}"
    raise TypeError(f"{type(content).__name__} is no TOML value")


def key(name: str) -> str:
    """A key, quoted where it has to be."""
    return name if _BARE.fullmatch(name) else value(name)


def table(name: str, entries: Mapping[str, Any], array: bool = False) -> str:
    """A section with its keys; tables within it follow as sections of their own."""
    lines = [f"[[{name}]]" if array else f"[{name}]"]
    lines += [f"{key(one)} = {value(entry)}" for one, entry in entries.items() if array or not isinstance(entry, Mapping)]
    inner = [] if array else [(one, entry) for one, entry in entries.items() if isinstance(entry, Mapping)]
    return "\n".join([*lines, *(f"\n{table(f'{name}.{key(one)}', entry)}" for one, entry in inner)])


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"  # half of a pair: no text in UTF-8 has it
    return char if char >= " " and char != "\x7f" else f"\\u{ord(char):04X}"
