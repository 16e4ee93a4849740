"""MessagePack by its reference library, as the other side of `mcp.msgpack`: none of edge-mcp's own code is in it."""

import base64
import binascii
from typing import Any

import msgpack  # type: ignore[import-untyped]

BINARY = ("blob", "data", "image", "audio", "raw")
"""The keys whose texts are sent as bin, where they are base64."""


def packed(message: Any, binary: tuple[str, ...] = BINARY) -> bytes:
    """A JSON message, as MessagePack with base64 as bin."""
    frame: bytes = msgpack.packb(_with_bin(message, binary))
    return frame


def unpacked(frame: bytes) -> Any:
    """Any message. What JSON has not (keys that are no texts, extension types, NaN) fails."""
    message = msgpack.unpackb(frame, ext_hook=_refused, strict_map_key=True, raw=False)
    _finite(message)
    return message


def as_json(message: Any) -> Any:
    """A message as JSON has it: bin as base64."""
    match message:
        case bytes():
            return base64.b64encode(message).decode()
        case dict():
            return {key: as_json(value) for key, value in message.items()}
        case list():
            return [as_json(value) for value in message]
        case _:
            return message


def _with_bin(message: Any, binary: tuple[str, ...], key: str = "") -> Any:
    match message:
        case dict():
            return {name: _with_bin(value, binary, name) for name, value in message.items()}
        case list():
            return [_with_bin(value, binary) for value in message]
        case str() if key in binary:
            try:
                return base64.b64decode(message, validate=True)
            except binascii.Error:
                return message
        case _:
            return message


def _refused(code: int, data: bytes) -> Any:
    raise AssertionError(f"an extension type, which JSON has not: {code}")


def _finite(message: Any) -> None:
    if isinstance(message, float):
        assert message - message == 0, "a number that JSON has not"
    elif isinstance(message, dict):
        assert all(isinstance(key, str) for key in message)
        for value in message.values():
            _finite(value)
    elif isinstance(message, list):
        for value in message:
            _finite(value)
