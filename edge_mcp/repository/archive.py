"""Models in one file, for a device without internet: a zip with an index of every file's SHA-256.

The same models always give the same file. What is read is not believed: sizes are bounded before and while unpacking, names
are plain, and what is not in the index, or differs from it, is refused.
"""

import errno
import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from edge_mcp.errors import ModelError
from edge_mcp.repository.entry import Entry
from edge_mcp.repository.onnx_file import external_files
from edge_mcp.repository.staging import MAX_BYTES, MAX_FILES

INDEX_NAME = "edge-mcp-models.json"
MAX_MODELS = 256
_MAX_INDEX = 8 * 1024 * 1024
_MAX_LIST = 16 * 1024 * 1024
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a file may be packed: of other ways, `zipfile` unpacks gigabytes at once, however little is asked for."""
_CHUNK = 1024 * 1024
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


class Packed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: its version, the SHA-256 of each file, and the model file of one without a manifest."""

    version: str
    files: dict[str, str]
    bare_file: str = ""


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive has to contain, and nothing else."""

    models: dict[str, Packed]
    format: int = 1


def pack(entries: Iterable[Entry], target: IO[bytes]) -> Index:
    """Write the models as one file. Raises: ModelError (a model cannot be read), OSError (the file cannot be written)."""
    chosen = sorted(entries, key=lambda entry: entry.manifest.model.name)
    models = {}
    for entry in chosen:
        files = {name: _hash(entry.folder / name) for name in _names(entry)}
        bare_file = entry.manifest.model.file if entry.bare else ""
        models[entry.manifest.model.name] = Packed(entry.manifest.model.version, files, bare_file)
    index = Index(models)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=True) as archive:
        archive.writestr(_info(INDEX_NAME), msgspec.json.format(msgspec.json.encode(index), indent=1))
        for entry in chosen:
            name = entry.manifest.model.name
            for file, digest in sorted(models[name].files.items()):
                with archive.open(_info(f"{name}/{file}"), "w", force_zip64=True) as packed:
                    if _copy(_open(entry.folder / file), packed, MAX_BYTES)[0] != digest:
                        raise ModelError(f"{entry.folder / file} was written to while it was read", "Try again")
    return index


def unpack(source: Path, folder: Path) -> Index:
    """Unpack every model into a folder of its name in `folder`, verified. Raises: ModelError, OSError (no room)."""
    try:
        with _open(source) as opened:
            _check_end(opened, source)
            with zipfile.ZipFile(opened) as archive:
                index, members = _checked(archive, source)
                for name, model in index.models.items():
                    (folder / name).mkdir()
                    for file, digest in model.files.items():
                        info = members[f"{name}/{file}"]
                        with archive.open(info) as packed, (folder / name / file).open("xb") as copy:
                            actual, size = _copy(packed, copy, info.file_size)
                        if actual != digest or size != info.file_size:
                            raise ModelError(f"{source.name} is damaged: {name}/{file} is not what was packed", "Copy it again")
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a place before the file's beginning
            raise
        raise ModelError(f"{source.name} is damaged, or no archive of models: {error}", "Copy it again") from error
    return index


def _check_end(file: IO[bytes], source: Path) -> None:
    """The list of an archive's files is read at once, so it must not be too long. Raises: ModelError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 42))
    end = file.read(42)
    file.seek(0)
    listed = int.from_bytes(end[-10:-6], "little")
    if end[-22:-18] != b"PK\5\6" or listed > _MAX_LIST or (end[:4] == b"PK\6\7" and size < 2**32):
        raise ModelError(f"{source.name} is damaged, or no archive of models", "Copy it again")


def _checked(archive: zipfile.ZipFile, source: Path) -> tuple[Index, Mapping[str, zipfile.ZipInfo]]:
    """The index and the members, which are exactly those of the index, plain, and not too large. Raises: ModelError."""
    infos = archive.infolist()
    members = {info.filename: info for info in infos}
    if INDEX_NAME not in members or members[INDEX_NAME].file_size > _MAX_INDEX:
        raise ModelError(f"{source.name} is no archive of models", "Write one with edge-mcp models export")
    if odd := next((info for info in infos if info.compress_type not in BOUNDED), None):
        raise ModelError(f"{source.name} is refused: {odd.filename[:100]!r} is packed in an unusual way", "Export it again")
    with archive.open(members[INDEX_NAME]) as file:
        content = file.read(_MAX_INDEX + 1)
    try:
        index = msgspec.json.decode(content, type=Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{source.name}: {INDEX_NAME} cannot be read: {error}", "Copy it again") from error
    wrong = _wrong_index(index) or _wrong_members(index, infos, members)
    if wrong:
        raise ModelError(f"{source.name} is refused: {wrong}", "Write it with edge-mcp models export")
    return index, members


def _wrong_index(index: Index) -> str:
    """What is wrong, or nothing."""
    if index.format != 1:
        return f"its format {index.format} is not known"
    if not 0 < len(index.models) <= MAX_MODELS:
        return f"it has {len(index.models)} models, and not 1 to {MAX_MODELS}"
    for name, model in index.models.items():
        if not _NAME.fullmatch(name) or len(name) > 255:
            return f"a model cannot be called {name[:100]!r}"
        if not 0 < len(model.files) <= MAX_FILES:
            return f"{name} has {len(model.files)} files, and not 1 to {MAX_FILES}"
        if bad := next((file for file in model.files if not _is_plain(file)), None):
            return f"{name} has a file called {bad[:100]!r}"
        if model.bare_file and model.bare_file not in model.files:
            return f"{name} has no file {model.bare_file[:100]!r}"
    return ""


def _wrong_members(index: Index, infos: Sequence[zipfile.ZipInfo], members: Mapping[str, zipfile.ZipInfo]) -> str:
    """What is wrong, or nothing."""
    wanted = {INDEX_NAME, *(f"{name}/{file}" for name, model in index.models.items() for file in model.files)}
    if len(infos) != len(members) or set(members) != wanted:
        odd = sorted(set(members) ^ wanted)
        return f"its files are not those of its index: {odd[0][:100]!r}" if odd else "it has two files of one name"
    if special := next((info for info in infos if not _is_regular(info)), None):
        return f"{special.filename[:100]!r} is no plain file"
    if sum(info.file_size for info in infos) > MAX_BYTES:
        return f"it would be larger than {MAX_BYTES // 1024**3} GiB"
    return ""


def _is_plain(name: str) -> bool:
    plain = not name.startswith(".") and name.isprintable() and not set(name) & set("/\\:")
    return plain and 0 < len(name.encode("utf-8", "surrogatepass")) <= 255


def _is_regular(info: zipfile.ZipInfo) -> bool:
    mode = info.external_attr >> 16
    return not info.is_dir() and (stat.S_IFMT(mode) in (0, stat.S_IFREG)) and not info.flag_bits & 1


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _names(entry: Entry) -> list[str]:
    """The files of a model: all plain ones of its folder, or a bare one and its weights."""
    if entry.bare:
        return sorted({entry.manifest.model.file, *external_files(entry.file)})
    names = sorted(path.name for path in entry.folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    if len(names) > MAX_FILES:
        raise ModelError(f"{entry.folder} has more than {MAX_FILES} files", "Keep only the model and what it needs there")
    if bad := next((name for name in names if not _is_plain(name)), None):
        raise ModelError(f"{entry.folder}: a file there is called {bad!r}", "Give it a name that can be printed")
    return names


def _open(path: Path) -> io.FileIO:
    """Raises: ModelError."""
    try:
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", "It has to be a plain file") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ModelError(f"{path} is no plain file", "It has to be a plain file")
    return file


def _hash(path: Path) -> str:
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: IO[bytes], target: IO[bytes], most: int) -> tuple[str, int]:
    """SHA-256 and size of what was copied. Raises: ModelError when there is more than `most`."""
    digest, size = hashlib.sha256(), 0
    with source:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise ModelError("a file is larger than it says", "Copy the archive again")
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest(), size
