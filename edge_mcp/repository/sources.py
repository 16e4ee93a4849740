"""What was dropped into a folder of models, and whether it changed since it was taken in."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_mcp.errors import ManifestError, ModelError
from edge_mcp.repository.entry import bare_name, children, kind
from edge_mcp.repository.onnx_file import external_files
from edge_mcp.repository.state import Model


class Dropped(msgspec.Struct, frozen=True):
    """A model folder or a bare model file (`bare`) at `path`; `fingerprint` tells this state of its files from others.

    `name` is the model's. The files were not read: whether they are a model shows when they are staged.
    """

    name: str
    path: Path
    fingerprint: str
    bare: bool


def dropped(folder: Path, known: dict[str, Model]) -> tuple[list[Dropped], list[str]]:
    """What lies in a folder of models, and what is wrong with the rest; `known` is what the state says of each model.

    Of two with one name the first counts. Raises: ManifestError when the folder cannot be read.
    """
    found: dict[str, Dropped] = {}
    problems: list[str] = []
    for path in children(folder):
        try:
            what = kind(path)
            if not what:
                continue
            if path.is_symlink():
                raise ManifestError(f"{path} is a symbolic link", "Copy or move here what it leads to")
            name = bare_name(path) if what == "file" else path.name
            if twin := found.get(name):
                raise ManifestError(f"{path}: left out, because {twin.path} has the same name", "Rename one of them")
            found[name] = Dropped(name, path, _fingerprint_of(path, what == "file", known.get(name, Model())), what == "file")
        except (ManifestError, ModelError) as error:
            problems.append(str(error))
    return list(found.values()), problems


def fingerprint(path: Path, names: Iterable[str] | None = None) -> str:
    """Path, size, time of change and inode of each file, as 32 hex digits; `names` of several files beside a bare one.

    Only a folder's own files count: not hidden ones, and none in folders. Raises: ManifestError.
    """
    digest = hashlib.blake2b(digest_size=16)
    folder = path.parent if names is not None else path
    try:
        for name in sorted(names) if names is not None else sorted(child.name for child in path.iterdir()):
            if name.startswith(".") and names is None:
                continue
            try:
                status = (folder / name).lstat()
            except FileNotFoundError:
                digest.update(os.fsencode(name) + b"\0missing\0")
                continue
            if not stat.S_ISDIR(status.st_mode):
                identity = (status.st_size, status.st_mtime_ns, status.st_ino, stat.S_IFMT(status.st_mode))
                digest.update(os.fsencode(name) + f"\0{identity}\0".encode())
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}", "Let this user read it, or move it away") from error
    return digest.hexdigest()


def fingerprint_now(source: Dropped) -> str:
    """The fingerprint of a source as it is at this moment. Raises: ManifestError."""
    return _fresh(source.path, source.bare)


def _fingerprint_of(path: Path, bare: bool, model: Model) -> str:
    """Of a bare file its external data counts too. That is only looked for where the file is not known as it is."""
    if not bare:
        return fingerprint(path)
    if model.source is not None:
        for version in model.versions:
            known = fingerprint(path, version.files) if version.bare_file == path.name else ""
            if known == model.source.fingerprint:
                return known
    return _fresh(path, bare)


def _fresh(path: Path, bare: bool) -> str:
    return fingerprint(path, {path.name, *external_files(path, strict=False)} if bare else None)
