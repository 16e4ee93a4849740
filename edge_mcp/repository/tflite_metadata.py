"""What a TFLite file says about itself: the FlatBuffer `TFLITE_METADATA` in it, and the label files in the zip appended to it.

Layouts: tensorflow/lite/schema/schema.fbs and tflite-support's metadata_schema.fbs 1.5; the numbers are the fields' in them.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from edge_mcp.repository.flatbuffer import Table, of_bytes
from edge_mcp.repository.metadata import MAX_TEXT, About, clean, clean_labels

MAX_METADATA = 1024 * 1024
MAX_FILE = 1024 * 1024
MAX_FILES = 64
_MAX_TENSORS = 64
_MAX_BUFFERS = 100_000
_NAME = "TFLITE_METADATA"
_NORMALIZATION, _THRESHOLDING = 1, 3  # of the union ProcessUnitOptions
_LABEL_TYPES = (2, 3)  # TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS
_END = struct.Struct("<4sHHHHIIH")  # a zip's end of central directory
_MAX_DIRECTORY = 64 * 1024


def of_tflite(path: Path) -> About:
    """What the file says; what is torn or too large is left out, and said so in `remarks`. Raises: OSError."""
    remarks: list[str] = []
    try:
        metadata = _metadata(path)
    except (ValueError, struct.error):
        return About(remarks=("the file's metadata is torn, and left out",))
    if metadata is None:
        return About()
    try:
        return _about(metadata, _Appendix(path, remarks), remarks)
    except (ValueError, struct.error):
        return About(remarks=(*remarks, "the file's metadata is torn, and left out"))


def _metadata(path: Path) -> Table | None:
    """The metadata's own table, whose bytes are copied out of the model's. Raises: ValueError."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size

        def read(offset: int, size: int) -> bytes:
            if offset < 0 or size < 0 or offset + size > end:
                raise ValueError(f"torn: {size} bytes at {offset} of {end}")
            return os.pread(file.fileno(), size, offset)

        model = Table.root(read)
        for entry in model.tables(6, MAX_FILES):
            if entry.text(0, len(_NAME) + 1) == _NAME:
                number = int(entry.number(1, "<I"))
                buffers = model.tables(4, min(number + 1, _MAX_BUFFERS))
                if number >= len(buffers):
                    raise ValueError("the metadata's buffer is missing")
                content = buffers[number].content(0, MAX_METADATA + 1)
                if len(content) > MAX_METADATA:
                    raise ValueError("the metadata is too large")
                return Table.root(of_bytes(content))
    return None


def _about(metadata: Table, appendix: "_Appendix", remarks: list[str]) -> About:
    subgraphs = metadata.tables(3, 1)
    inputs = subgraphs[0].tables(2, _MAX_TENSORS) if subgraphs else []
    outputs = subgraphs[0].tables(3, _MAX_TENSORS) if subgraphs else []
    return About(
        title=_text(metadata, 0),
        description=_text(metadata, 1),
        version=_text(metadata, 2),
        author=_text(metadata, 4),
        license=_text(metadata, 5),
        labels=appendix.labels(outputs),
        scale=_scale(inputs, remarks),
        threshold=_threshold(outputs),
        inputs=tuple(_described(one) for one in inputs),
        outputs=tuple(_described(one) for one in outputs),
        remarks=tuple(remarks),
    )


def _text(table: Table, field: int) -> str:
    return clean(table.text(field, 4 * MAX_TEXT))


def _described(tensor: Table) -> str:
    return ": ".join(part for part in (_text(tensor, 0), _text(tensor, 1)) if part)


def _units(tensors: list[Table], kind: int) -> Iterator[Table]:
    for tensor in tensors:
        for unit in tensor.tables(4, MAX_FILES):
            options = unit.table(1)
            if unit.number(0, "<B") == kind and options is not None:
                yield options


def _scale(inputs: list[Table], remarks: list[str]) -> tuple[float, float] | None:
    """The one mean and divisor of the one input, if the file gives them."""
    for options in _units(inputs[:1], _NORMALIZATION):
        mean, divisor = options.floats(0, 16), options.floats(1, 16)
        if len(set(mean)) == len(set(divisor)) == 1 and abs(mean[0]) < 1e6 and 1e-6 < abs(divisor[0]) < 1e6:
            return round(mean[0], 6), round(divisor[0], 6)
        remarks.append(f"the file normalizes each channel by itself: mean {_listed(mean)}, divisor {_listed(divisor)}")
    return None


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _threshold(outputs: list[Table]) -> float | None:
    found = [options.number(0, "<f") for options in _units(outputs[:1], _THRESHOLDING)]
    return round(found[0], 6) if found and 0 <= found[0] <= 1 else None


class _Appendix:
    """The zip at the end of the file. Names in it only tell which file is which: nothing is written under one."""

    def __init__(self, path: Path, remarks: list[str]) -> None:
        self._path = path
        self._remarks = remarks

    def labels(self, outputs: list[Table]) -> tuple[str, ...]:
        """The labels of the first output that has some. Raises: ValueError where the metadata is torn."""
        for output in outputs:
            for file in output.tables(6, MAX_FILES):
                if file.number(2) in _LABEL_TYPES:
                    return self._read(file.text(0, 1024))
        return ()

    def _read(self, name: str) -> tuple[str, ...]:
        try:
            content = self._content(name)
        # what zipfile raises for bytes that are no zip, or one of a kind that it does not know
        except (OSError, ValueError, RuntimeError, EOFError, KeyError, zlib.error, struct.error, zipfile.BadZipFile) as error:
            self._remarks.append(f"the label file {clean(name, 80)!r} in the file cannot be read: {clean(str(error), 120)}")
            return ()
        text = content.decode("utf-8", "replace")
        return clean_labels(text.removesuffix("\n").split("\n"))

    def _content(self, name: str) -> bytes:
        """Raises: ValueError (too much of anything), and what zipfile raises."""
        with self._path.open("rb") as file:
            _check_directory(file.fileno())
            with zipfile.ZipFile(file) as archive:
                info = archive.getinfo(name)
                if info.file_size > MAX_FILE or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("it is too large, or packed in an unusual way")
                with archive.open(info) as member:
                    content = member.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise ValueError("it is larger than it says")
        return content


def _check_directory(descriptor: int) -> None:
    """zipfile reads a whole directory before anything can be asked of it. Raises: ValueError where that is too large."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - 65_557)  # a zip's comment has 65,535 bytes at most, and its end 22
    tail = os.pread(descriptor, size - start, start)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or place + _END.size > len(tail) or b"PK\x06\x07" in tail[max(0, place - 20) : place]:
        raise ValueError("there is no zip at the end of the file, or one of an unusual kind")
    files, directory = _END.unpack_from(tail, place)[4:6]
    if files > MAX_FILES or directory > _MAX_DIRECTORY:
        raise ValueError("the zip at the end of the file has too many files")
