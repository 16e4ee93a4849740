"""Something to feed a model with: arguments of its manifest's own check, or else made up."""

import base64
import struct
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from edge_mcp.cli.arguments import Given, converted
from edge_mcp.engine.messages import Signature, TensorSpec
from edge_mcp.engine.naming import argument_names
from edge_mcp.errors import ManifestError, ModelError
from edge_mcp.repository.inputs import TensorInput
from edge_mcp.repository.manifest import MANIFEST_NAME
from edge_mcp.repository.sections import Check
from edge_mcp.repository.store import Entry

MAX_FILE = 64 * 1024 * 1024
MAX_ELEMENTS = 4 * 1024 * 1024
FREE_SIZES = (320, 512, 48, 32, 1)
"""For what is of any size, until one will do: what pictures, sounds, lines of text and short sequences may have."""
_FLOATS = {"FP16": "e", "FP32": "f", "FP64": "d"}
_WIDTHS = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "UINT32": 4, "INT32": 4, "UINT64": 8, "INT64": 8}
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


def arguments_for(entry: Entry, schema: Mapping[str, Any], signature: Signature, free: int) -> tuple[bytes, str]:
    """Arguments to measure with, as JSON, and what they are: the first check's, or something made up for the kind of input.

    In tensors that are made up, sizes that the file leaves open are `free`, and a batch is of one.

    Raises: ManifestError, ArgumentError, ModelError (nothing can be made up).
    """
    manifest = entry.manifest
    if manifest.check:
        arguments = check_arguments(manifest.check[0], entry.folder, schema, manifest.tool.name)
        return msgspec.json.encode(arguments), "the sample in its manifest"
    properties: Mapping[str, Any] = schema["properties"]
    if isinstance(manifest.input, TensorInput):
        names = argument_names(signature.inputs)
        made = {name: _tensor(spec, free) for name, spec in zip(names, signature.inputs, strict=True)}
        open_sizes = f", {free} where any size will do" if any(-1 in spec.shape[1:] for spec in signature.inputs) else ""
        return msgspec.json.encode({**made, "encoding": "base64"}), f"random tensors{open_sizes}"
    if "image" in properties:
        return msgspec.json.encode({"image": encoded(picture())}), "a made-up picture of 640 x 480 pixels (PNG)"
    if "text" in properties:
        return msgspec.json.encode({"text": text()}), "400 characters of English"
    if "audio" in properties:
        return msgspec.json.encode({"audio": encoded(sound())}), "a made-up sound of 1 s"
    if "data" in properties:
        return msgspec.json.encode({"data": encoded(text(4096).encode())}), "4 KiB of text"
    raise ModelError(f"there is no sample to run {manifest.model.name} with", "Give its manifest a [[check]]")


def _tensor(spec: TensorSpec, free: int) -> dict[str, Any]:
    """Floats from 0 to 1, integers of 0. Raises: ModelError."""
    shape = [(free if place else 1) if size == -1 else size for place, size in enumerate(spec.shape)]
    count = prod(shape)
    if count > MAX_ELEMENTS:
        raise ModelError(f"input {spec.name[:60]!r} is too large to make one up", "Give the manifest a [[check]]")
    if spec.datatype == "BYTES":
        return {"dtype": "BYTES", "shape": shape, "data": ["text"] * count}
    if spec.datatype in _FLOATS:
        chance = Random(0)  # noqa: S311 - no secret
        data = struct.pack(f"<{count}{_FLOATS[spec.datatype]}", *(chance.random() for _ in range(count)))
    else:
        data = bytes(count * _WIDTHS[spec.datatype])
    return {"dtype": spec.datatype, "shape": shape, "data": encoded(data)}


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
