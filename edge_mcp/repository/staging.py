"""Copies a model folder or file to where nobody else writes, and verifies the copy: only what was copied is ever served."""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from edge_mcp.errors import ManifestError, ModelError
from edge_mcp.repository.bounds import MAX_BYTES as MAX_MANIFEST
from edge_mcp.repository.entry import Entry, derived
from edge_mcp.repository.manifest import MANIFEST_NAME, Manifest, read
from edge_mcp.repository.onnx_file import external_files
from edge_mcp.repository.sources import Dropped, fingerprint, fingerprint_now
from edge_mcp.repository.state import Version, sync_folder

MAX_FILES = 256
MAX_BYTES = 8 * 1024**3
_CHUNK = 1024 * 1024


class SourceChanged(ModelError):
    """The source was written to while it was copied: stage it again when it is at rest."""


class Staged:
    """A verified copy on its way: `entry` can be loaded from it, until it is committed or `discard`ed.

    `version` is what it will be kept as; `fingerprint` is of the source as it was copied, empty where it is not to be followed.
    """

    def __init__(self, folder: Path, lock: int, entry: Entry, version: Version, fingerprint: str, source: str) -> None:
        self.folder = folder
        self.entry = entry
        self.version = version
        self.fingerprint = fingerprint
        self.source = source
        self._lock = lock

    def discard(self) -> None:
        """Delete the copy, if it is still there; to be called whatever became of it."""
        if self._lock >= 0:
            delete(self.folder)
            os.close(self._lock)
            self._lock = -1


def stage(area: Path, source: Dropped, repository: Path, extra: Mapping[str, bytes] | None = None) -> Staged:
    """Copy `source` to a new folder in `area`, with `extra` files instead of or beside its own, and verify it.

    The copy is on disk when this returns. It takes as long as the copying takes.
    Raises: ManifestError, ModelError (what is wrong with it), SourceChanged, OSError (it cannot be written).
    """
    folder, lock = _new_folder(area)
    try:
        before = fingerprint_now(source)
        files = _copy_bare(source.path, folder) if source.bare else _copy_folder(source.path, folder, frozenset(extra or ()))
        for name, content in (extra or {}).items():
            files[name] = _written(folder / name, content)
        sync_folder(folder)
        manifest, bare_file = _verified(folder, source, files)
        now = fingerprint(source.path, set(files) - set(extra or ()) if source.bare else None)
        if now != before:
            raise SourceChanged(f"{source.path} was written to while it was copied", "It is looked at again")
    except BaseException:
        delete(folder)
        os.close(lock)
        raise
    version = Version(manifest.model.version, digest_of(files), files, bare_file)
    entry = Entry(folder, pinned(manifest, files), bool(bare_file), version.digest, now, repository)
    in_repository = source.path.parent == repository
    return Staged(folder, lock, entry, version, now if in_repository else "", source.path.name if in_repository else "")


@contextmanager
def workspace(area: Path) -> Iterator[Path]:
    """A folder of one's own in `area`, deleted afterwards."""
    folder, lock = _new_folder(area)
    try:
        yield folder
    finally:
        delete(folder)
        os.close(lock)


def delete(folder: Path) -> None:
    """Delete a folder and all in it, as far as that is possible: what is left is tried again at the next start."""
    import shutil  # with it come three compression libraries: most starts of a server need none of this

    shutil.rmtree(folder, ignore_errors=True)


def is_littered(area: Path) -> bool:
    """Whether there is anything in it, in use or not."""
    return area.is_dir() and any(area.iterdir())


def sweep(area: Path) -> None:
    """Delete what a process that is gone left half-copied."""
    for path in area.iterdir():
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            path.unlink(missing_ok=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            delete(path)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)


def digest_of(files: Mapping[str, str]) -> str:
    """One digest over the names and the SHA-256 of all files, hex."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + content.encode() + b"\n")
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, hex. Raises: ModelError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path} is no plain file")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", "Let this user read it") from error


def pinned(manifest: Manifest, files: Mapping[str, str]) -> Manifest:
    """The manifest with the digests of the files that were taken in, where it names none: they are checked at every load."""
    if manifest.steps:
        steps = tuple(replace(step, sha256=step.sha256 or files.get(step.file, "")) for step in manifest.steps)
        return replace(manifest, steps=steps, model=replace(manifest.model, sha256=steps[0].sha256))
    return replace(manifest, model=replace(manifest.model, sha256=manifest.model.sha256 or files.get(manifest.model.file, "")))


def _new_folder(area: Path) -> tuple[Path, int]:
    """A folder of one's own in `area`, and the lock by which others know that it is in use."""
    number = 0
    while True:
        folder = area / f"{os.getpid()}-{number}"
        number += 1
        try:
            folder.mkdir()
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileExistsError, FileNotFoundError):
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists() and folder.stat().st_ino == os.fstat(lock).st_ino:
            return folder, lock
        os.close(lock)  # swept away before it was locked


def _copy_folder(path: Path, target: Path, without: frozenset[str]) -> dict[str, str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read: {error.strerror}", "It has to be a folder that this user may read"
        ) from error
    try:
        with os.scandir(descriptor) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.name not in without)
        return _copy_names(path, descriptor, names, target)
    finally:
        os.close(descriptor)


def _copy_bare(path: Path, target: Path) -> dict[str, str]:
    """A model file, and the files beside it in which it keeps its weights."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files = _copy_names(path.parent, descriptor, [path.name], target)
        more = sorted(external_files(target / path.name) - {path.name})
        files |= _copy_names(path.parent, descriptor, more, target, sum(file.stat().st_size for file in target.iterdir()))
    finally:
        os.close(descriptor)
    return files


def _copy_names(path: Path, folder: int, names: list[str], target: Path, taken: int = 0) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in names:
        status = _status(path, folder, name)
        if stat.S_ISDIR(status.st_mode):
            continue
        if len(files) >= MAX_FILES:
            raise ModelError(f"{path} has more than {MAX_FILES} files", "Keep only the model and what it needs there")
        files[name], size = _copied(path / name, folder, target / name, MAX_BYTES - taken)
        taken += size
    return files


def _status(path: Path, folder: int, name: str) -> os.stat_result:
    """Raises: ModelError for what is no plain file or folder with a plain name."""
    if not name.isprintable():
        raise ModelError(f"{path}: a file there is called {name!r}", "Give it a name that can be printed")
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise ModelError(f"{path / name}: cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(status.st_mode):
        raise ModelError(f"{path / name} is a symbolic link", "Copy here what it leads to")
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ModelError(f"{path / name} is no plain file", "Keep only the model and what it needs there")
    return status


def _copied(path: Path, folder: int, target: Path, most: int) -> tuple[str, int]:
    """The SHA-256 of what was copied, and how much that was. It is on disk."""
    digest, size = hashlib.sha256(), 0
    try:
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}", "Let this user read it") from error
    with os.fdopen(descriptor, "rb", buffering=0) as source, target.open("xb") as copy:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise ModelError(f"{path} is no plain file", "Keep only the model and what it needs there")
        _check_size(path, before.st_size, most, target)
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise SourceChanged(f"{path} grew while it was copied", "It is looked at again")
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise SourceChanged(f"{path} was written to while it was copied", "It is looked at again")
    return digest.hexdigest(), size


def _check_size(path: Path, size: int, most: int, target: Path) -> None:
    """Before a byte is written, which wears a card. Raises: ModelError, OSError (there is no room for it)."""
    if size > most:
        raise ModelError(f"{path}: a model of more than {MAX_BYTES // 1024**3} GiB is not taken in")
    if path.name == MANIFEST_NAME and size > MAX_MANIFEST:
        raise ManifestError(f"{path} is larger than {MAX_MANIFEST // 1024} KiB", "See what it is that lies there")
    room = os.statvfs(target.parent)
    if size > room.f_bavail * room.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))


def _written(path: Path, content: bytes) -> str:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _verified(folder: Path, source: Dropped, files: Mapping[str, str]) -> tuple[Manifest, str]:
    """The manifest of the copy, and the model file of a bare one. Raises: ManifestError, ModelError."""
    bare = source.bare and MANIFEST_NAME not in files
    manifest = derived(folder / source.path.name, source.name) if bare else read(folder, source.name, source.path)
    if manifest.model.name != source.name:
        raise ManifestError(f"{source.path}: the model is called {manifest.model.name!r} and not {source.name!r}")
    for part in manifest.parts:
        file, expected = part.model.file, part.model.sha256
        if file not in files:
            raise ModelError(f"{source.path}: the model file {file} is not there")
        if expected and files[file] != expected:
            hint = "Copy it again, or write the new digest into model.toml if the change is yours"
            raise ModelError(f"{source.path}: {file} has the SHA-256 {files[file]}, but model.toml says {expected}", hint)
        if missing := sorted(external_files(folder / file) - set(files)):
            raise ModelError(
                f"{source.path}: {file} keeps weights in {missing[0]}, which is not there", "Copy it beside the model"
            )
    return manifest, source.path.name if bare else ""
