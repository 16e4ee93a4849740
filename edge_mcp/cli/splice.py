"""One entry put into a JSON text that somebody else wrote; all else stays as it is, byte by byte. Pure."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

_SPACE = " \t\r\n"
_STEP = "  "
_DECODER = json.JSONDecoder()


class _Member(NamedTuple):
    """A key and its value, and where they are in the text."""

    key: str
    start: int
    value_start: int
    value_end: int
    value: Any


def spliced(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with `value` at `path`, such as ("mcpServers", "kitchen"): in place of what is there, or as the last entry of its
    object, which is made where there is none. Raises: ValueError with the reason, for a text that is no JSON object, or has a
    key of the path twice or as something else than an object."""
    if not text.strip(_SPACE):
        text = "{}\n"
    start = _skipped(text, 0)
    _, end = _decoded(text, start)
    if text[end:].strip(_SPACE):
        raise ValueError("there is more after the end of it")
    return _set(text, start, path, value, 0)


def _set(text: str, start: int, path: Sequence[str], value: Any, depth: int) -> str:
    members, end = _members(text, start)
    mine = [member for member in members if member.key == path[0]]
    if len(mine) > 1:
        raise ValueError(f"it has {path[0]!r} twice")
    if len(path) > 1 and mine:
        return _set(text, mine[0].value_start, path[1:], value, depth + 1)
    for name in reversed(path[1:]):
        value = {name: value}
    indent, first = _indent(text, members, depth)
    shown = json.dumps(value, indent=_STEP, ensure_ascii=False).replace("\n", "\n" + indent)
    if mine:
        return text[: mine[0].value_start] + shown + text[mine[0].value_end :]
    entry = f"{json.dumps(path[0], ensure_ascii=False)}: {shown}"
    if members:
        after = members[-1].value_end
        return f"{text[:after]},{first}{entry}{text[after:]}"
    return f"{text[: start + 1]}\n{indent}{entry}\n{_STEP * depth}{text[end - 1 :]}"


def _indent(text: str, members: Sequence[_Member], depth: int) -> tuple[str, str]:
    """How entries of an object are indented, and what goes before one."""
    if not members:
        return _STEP * (depth + 1), ""
    begun = members[-1].start
    before = text[len(text[:begun].rstrip(_SPACE)) : begun]
    return (before.rpartition("\n")[2], before) if "\n" in before else ("", " ")


def _members(text: str, start: int) -> tuple[list[_Member], int]:
    """The entries of the object that begins at `start`, and where it ends. The text is known to be JSON."""
    if text[start] != "{":
        raise ValueError("it is no object where one has to be")
    members: list[_Member] = []
    at = _skipped(text, start + 1)
    while text[at] != "}":
        begun = at
        key, at = _decoded(text, at)
        value_start = _skipped(text, _skipped(text, at) + 1)
        value, value_end = _decoded(text, value_start)
        members.append(_Member(key, begun, value_start, value_end, value))
        at = _skipped(text, value_end)
        if text[at] == ",":
            at = _skipped(text, at + 1)
    return members, at + 1


def _decoded(text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} in line {error.lineno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
