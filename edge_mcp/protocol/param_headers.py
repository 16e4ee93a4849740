"""Arguments that travel in header fields too: `x-mcp-header` in a schema, `Mcp-Param-*` (2026-07-28, Streamable HTTP)."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.headers import Fields, ModernRequest, Refusal, decoded

PARAM = "Mcp-Param-"

_NUMBER = re.compile(r"-?\d{1,40}(\.0{1,20})?")
_MAX_DEPTH = 16


def check_params(fields: Fields, request: ModernRequest, schema: Mapping[str, Any]) -> Refusal | None:
    """Whether the `Mcp-Param-*` header fields that a tool's schema asks for (`x-mcp-header`) say the same as the arguments."""
    wanted = list(_headers_of(schema.get("properties"), ()))
    if not wanted:
        return None
    try:
        arguments = msgspec.json.decode(request.arguments)
    except jsonrpc.UNDECODABLE:
        return None  # the call itself is refused for it
    for header, path in wanted:
        if fault := _param_fault(fields, PARAM + header, _at(arguments, path)):
            return Refusal(400, fault, jsonrpc.HEADER_MISMATCH, request.id)
    return None


def _headers_of(properties: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not isinstance(properties, Mapping) or len(path) >= _MAX_DEPTH:
        return
    for key, schema in properties.items():
        if isinstance(schema, Mapping):
            header = schema.get("x-mcp-header")
            if isinstance(header, str) and header:
                yield header, (*path, key)
            yield from _headers_of(schema.get("properties"), (*path, key))


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        arguments = arguments.get(key) if isinstance(arguments, dict) else None
    return arguments


def _param_fault(fields: Fields, name: str, value: Any) -> str | None:
    given = fields.getall(name, [])
    if len(given) > 1:
        return f"the header {name} is there more than once"
    if value is None:
        return f"the header {name} has no argument" if given else None
    if not isinstance(value, str | int):
        return None  # no type that travels in a header; the schema refuses it
    if not given:
        return f"the header {name} is missing"
    said = decoded(given[0].strip(" \t"))
    return None if said is not None and _same(said, value) else f"the header {name} and the argument differ"


def _same(said: str, value: str | int) -> bool:
    if isinstance(value, bool):
        return said == ("true" if value else "false")
    if isinstance(value, int):
        return bool(_NUMBER.fullmatch(said)) and int(said.partition(".")[0]) == value
    return said == value
