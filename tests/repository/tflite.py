"""TFLite files that say something about themselves, as tflite-support's metadata writer makes them."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

LABELS = "labels.txt"


def table(builder: Any, fields: Sequence[tuple[str, Any]]) -> int:
    """`fields` in the schema's order: `("text", offset)`, `("byte", number)`, `("float", number)`, or `("", None)`."""
    builder.StartObject(len(fields))
    for slot, (kind, value) in enumerate(fields):
        if kind == "text":
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "byte":
            builder.PrependUint8Slot(slot, value, 0)
        elif kind == "float":
            builder.PrependFloat32Slot(slot, value, 0.0)
    return int(builder.EndObject())


def vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def floats(builder: Any, numbers: Sequence[float]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependFloat32(number)
    return int(builder.EndVector())


def metadata(
    texts: Mapping[str, str],
    labels: str = LABELS,
    mean: Sequence[float] = (127.5,),
    divisor: Sequence[float] = (127.5,),
    threshold: float = 0.25,
) -> bytes:
    """A ModelMetadata with one input that is normalized, and one output that has a label file."""
    builder = flatbuffers.Builder(1024)
    none = ("", None)

    def text(content: str) -> tuple[str, int]:
        return "text", builder.CreateString(content)

    file = table(builder, [text(labels), none, ("byte", 2)])
    options = table(builder, [("text", floats(builder, mean)), ("text", floats(builder, divisor))])
    scaling = table(builder, [("byte", 1), ("text", options)])
    least = table(builder, [("byte", 3), ("text", table(builder, [("float", threshold)]))])
    name, about = text("image"), text("The picture.")
    taken = table(builder, [name, about, none, none, ("text", vector(builder, [scaling]))])
    name = text("scores")
    fields = [name, none, none, none, ("text", vector(builder, [least])), none, ("text", vector(builder, [file]))]
    answered = table(builder, fields)
    graph = table(builder, [none, none, ("text", vector(builder, [taken])), ("text", vector(builder, [answered]))])
    graphs = ("text", vector(builder, [graph]))
    said = {key: text(content) for key, content in texts.items()}
    fields = [said.get(key, none) for key in ("name", "description", "version")]
    builder.Finish(table(builder, [*fields, graphs, said.get("author", none), said.get("license", none)]), b"M001")
    return bytes(builder.Output())


def with_metadata(model: bytes, content: bytes, files: Mapping[str, bytes]) -> bytes:
    """The model with the metadata in it and the files in a zip at its end."""
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(content)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*(tree.metadata or []), entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    packed = io.BytesIO()
    packed.write(builder.Output())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, inside in files.items():
            archive.writestr(name, inside)
    return packed.getvalue()
