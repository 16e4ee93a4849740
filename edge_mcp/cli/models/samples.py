"""Something to feed a model with: arguments of its manifest's own check, or else made up."""

import base64
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_mcp.cli.arguments import Given, converted
from edge_mcp.errors import ManifestError
from edge_mcp.repository.manifest import MANIFEST_NAME
from edge_mcp.repository.sections import Check

MAX_FILE = 64 * 1024 * 1024
_TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all. "


def check_arguments(check: Check, folder: Path, schema: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """The arguments of a check, each text `@FILE` replaced by that file's content as the argument takes it.

    Raises: ManifestError (the file), ArgumentError (the argument).
    """
    files: dict[str, Given] = {}
    plain: dict[str, Any] = {}
    for key, value in check.arguments.items():
        if isinstance(value, str) and value.startswith("@@"):
            plain[key] = value[1:]
        elif isinstance(value, str) and value.startswith("@"):
            files[key] = _beside(folder, value[1:])
        else:
            plain[key] = value
    relaxed = {**schema, "required": []}
    return {**plain, **converted(files, relaxed, tool)}


def _beside(folder: Path, name: str) -> bytes:
    """A file of the model's own folder. Raises: ManifestError."""
    if not name or Path(name).name != name:
        raise ManifestError(f"{folder / MANIFEST_NAME}: check: '@{name}' names no file of this folder")
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            raise ManifestError(f"{folder / MANIFEST_NAME}: check: {name} is not there, or is no plain file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{folder / MANIFEST_NAME}: check: {name} cannot be read: {error}") from error
    if len(content) > MAX_FILE:
        raise ManifestError(f"{folder / MANIFEST_NAME}: check: {name} is larger than {MAX_FILE // 2**20} MiB")
    return content


def picture(width: int = 640, height: int = 480) -> bytes:
    """A PNG in colour that shows nothing: three gradients."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        rows += bytes(part for x in range(width) for part in (x & 255, y & 255, (x + y) & 255))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(rows), 6)),
        (b"IEND", b""),
    ]
    chunks = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def sound(seconds: float = 1.0, rate: int = 16_000) -> bytes:
    """A WAV of one channel, 16 bits: a hum that is no speech."""
    samples = b"".join(struct.pack("<h", ((index * 220) % rate) * 8000 // rate - 4000) for index in range(int(seconds * rate)))
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(samples),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate,
        2 * rate,
        2,
        16,
        b"data",
        len(samples),
    )
    return head + samples


def encoded(content: bytes) -> str:
    """As an argument takes bytes."""
    return base64.b64encode(content).decode("ascii")


def text(length: int = 400) -> str:
    """English, of so many characters."""
    return (_TEXT * (length // len(_TEXT) + 1))[:length]
