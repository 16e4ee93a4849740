"""Checks arguments against a tool's `inputSchema`: the part of JSON Schema that `edge_mcp.tools.arguments` writes."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from edge_mcp.errors import ArgumentError

_MAX_SHOWN = 60
_INTEGER = ("integer", "number")
_TYPES: dict[type, tuple[str, ...]] = {
    dict: ("object",),
    list: ("array",),
    str: ("string",),
    bool: ("boolean",),
    type(None): ("null",),
    int: _INTEGER,
    float: ("number",),
}
_ARTICLES = {"object": "an object", "array": "a list", "integer": "an integer", "boolean": "true or false", "null": "null"}


def validate(schema: Mapping[str, Any], arguments: Any) -> dict[str, Any]:
    """The arguments with defaults filled in and integral floats made integers. Raises: ArgumentError."""
    if not isinstance(arguments, dict):
        raise ArgumentError(f"the arguments must be an object, not {_shown(arguments)}")
    return _object(schema, arguments, "")


def _value(schema: Mapping[str, Any], value: Any, name: str) -> Any:
    if "anyOf" in schema:
        return _any_of(schema["anyOf"], value, name)
    if not _has_type(schema, value):
        raise ArgumentError(f"argument {name} must be {_described(_types(schema))}, not {_shown(value)}")
    if "enum" in schema and value not in schema["enum"]:
        raise ArgumentError(f"argument {name} must be one of {', '.join(map(_shown, schema['enum']))}, not {_shown(value)}")
    if isinstance(value, dict):
        return _object(schema, value, f"{name}.")
    if isinstance(value, list) and "items" in schema:
        return [_value(schema["items"], entry, f"{name}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(schema, value, name)
    return value


def _object(schema: Mapping[str, Any], value: dict[str, Any], prefix: str) -> dict[str, Any]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise ArgumentError(f"argument {prefix}{name} is missing", f"The arguments are {_listed(schema)}")
    checked = {}
    for name, entry in value.items():
        if name in properties:
            checked[name] = _value(properties[name], entry, prefix + name)
        elif schema.get("additionalProperties", True):
            checked[name] = entry
        else:
            raise ArgumentError(f"there is no argument {_shown(prefix + name)}", _nearest(name, schema))
    for name, part in properties.items():
        if "default" in part and name not in checked:
            checked[name] = part["default"]
    return checked


def _any_of(branches: list[Mapping[str, Any]], value: Any, name: str) -> Any:
    """The first branch of the value's type decides, so that its complaint is the one that helps."""
    for branch in branches:
        if _has_type(branch, value):
            return _value(branch, value, name)
    types = [one for branch in branches for one in _types(branch)]
    raise ArgumentError(f"argument {name} must be {_described(types)}, not {_shown(value)}")


def _number(schema: Mapping[str, Any], value: float, name: str) -> float:
    if "minimum" in schema and value < schema["minimum"]:
        raise ArgumentError(f"argument {name} must be at least {schema['minimum']}, not {_shown(value)}")
    if "maximum" in schema and value > schema["maximum"]:
        raise ArgumentError(f"argument {name} must be at most {schema['maximum']}, not {_shown(value)}")
    return int(value) if "integer" in _types(schema) else value


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _has_type(schema: Mapping[str, Any], value: Any) -> bool:
    wanted = schema.get("type")
    if type(value) is bytes:  # what a sensor gave, or bin of MessagePack: it stands where base64 may
        return "contentEncoding" in schema
    if wanted is None:
        return True
    types = _INTEGER if type(value) is float and value.is_integer() else _TYPES[type(value)]
    return wanted in types if type(wanted) is str else not {*types}.isdisjoint(wanted)


def _described(types: list[str]) -> str:
    return " or ".join(_ARTICLES.get(one, f"a {one}") for one in types)


def _shown(value: Any) -> str:
    """The value as JSON, cut short: it may be megabytes."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = msgspec.json.encode(value[: _MAX_SHOWN + 1] if isinstance(value, str) else value).decode()
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _listed(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    names = [name if name in required else f"{name} (optional)" for name in schema.get("properties", {})]
    return ", ".join(names) or "none"


def _nearest(name: str, schema: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:_MAX_SHOWN], list(schema.get("properties", {})), n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return f"{meant}The arguments are {_listed(schema)}"
