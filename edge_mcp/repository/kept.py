"""Which versions of a model are kept, and which of them may become active; folders of versions, read and deleted."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from edge_mcp.errors import ConfigError, EdgeError, ModelError
from edge_mcp.repository.entry import derived
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES, read
from edge_mcp.repository.onnx_file import external_files
from edge_mcp.repository.semver import precedence
from edge_mcp.repository.staging import delete, digest_of
from edge_mcp.repository.state import Model, State, Version

MAX_KEPT = 4
logger = logging.getLogger(__name__)


class DowngradeError(ModelError):
    """A version below the highest one that ever was active, which nobody asked for."""


def refuse_downgrade(name: str, version: str, model: Model, allowed: bool) -> None:
    """Raises: DowngradeError."""
    if model.highest and not allowed and precedence(version) < precedence(model.highest):
        hint = f"If you mean it: edge-mcp models use {name} {version} --allow-downgrade"
        raise DowngradeError(f"{name} {version} is below {model.highest}, which was active already", hint)


def activated(model: Model, version: Version) -> Model:
    """The model with this version active. What was active stays; of the others, the latest of each number, four in all."""
    previous = model.active if model.active != version.folder else model.previous
    before = model.version(previous)
    kept = [version, before] if before else [version]
    for other in model.versions:
        if len(kept) < MAX_KEPT and other.version not in [one.version for one in kept]:
            kept.append(other)
    highest = max((model.highest, version.version), key=precedence) if model.highest else version.version
    return replace(
        model, active=version.folder, previous=before.folder if before else "", highest=highest, versions=tuple(kept)
    )


def find(model: Model, version: str) -> Version | None:
    """A version by its number or its folder's name; of two with one number the active or else the later one."""
    found = [kept for kept in model.versions if version in (kept.version, kept.folder)]
    return next((kept for kept in found if kept.folder == model.active), found[0] if found else None)


def without(name: str, version: str, model: Model) -> Model:
    """The model without a version. Raises: ConfigError when there is none, or it is active."""
    gone = [kept for kept in model.versions if version in (kept.version, kept.folder) and kept.folder != model.active]
    if not gone:
        if find(model, version):
            raise ConfigError(f"{name} {version} is the active version", f"Remove all: edge-mcp models remove {name}")
        raise ConfigError(f"no version {version} of {name} is kept", "See edge-mcp models list")
    folders = {kept.folder for kept in gone}
    versions = tuple(kept for kept in model.versions if kept.folder not in folders)
    return replace(model, versions=versions, previous="" if model.previous in folders else model.previous)


def is_intact(folder: Path, version: Version) -> bool:
    """Whether a version's folder has exactly its files with their contents."""
    try:
        return _files(folder) == version.files
    except OSError:
        return False


def delete_unknown(versions: Path, state: State) -> None:
    """Delete the folders of versions that the state does not name."""
    for path in versions.iterdir() if versions.is_dir() else ():
        known = {version.folder for version in state.model(path.name).versions}
        for folder in path.iterdir() if path.is_dir() else ():
            if folder.name not in known:
                delete(folder)
        if not known:
            delete(path)


def has_unknown(versions: Path, state: State) -> bool:
    """Whether there are such folders."""
    for path in versions.iterdir() if versions.is_dir() else ():
        known = {version.folder for version in state.model(path.name).versions}
        if not known or any(folder.name not in known for folder in path.iterdir()):
            return True
    return False


def rebuilt(versions: Path, reason: Exception) -> State:
    """The state as the folders of versions tell it: of each model the highest version is active. The log says why."""
    models = {}
    for path in sorted(versions.iterdir()) if versions.is_dir() else ():
        found = sorted(_found(path), key=lambda version: precedence(version.version), reverse=True)
        if found:
            first = found[0]
            models[path.name] = Model(first.folder, "", first.version, tuple(found[:MAX_KEPT]), added=True)
    logger.warning("%s; it is kept as state.json.broken, and made anew from the %d models in versions", reason, len(models))
    return State(models)


def _found(path: Path) -> Iterator[Version]:
    """The versions of a model, by their folders: those whose content is what their names say."""
    for folder in sorted(path.iterdir()) if path.is_dir() else ():
        try:
            files = _files(folder)
            bare_file = "" if MANIFEST_NAME in files else _bare(folder, files)
            manifest = derived(folder / bare_file, path.name) if bare_file else read(folder, path.name)
        except (OSError, EdgeError):
            continue
        version = Version(manifest.model.version, digest_of(files), files, bare_file)
        if version.folder == folder.name and manifest.model.file in files:
            yield version


def _bare(folder: Path, files: dict[str, str]) -> str:
    """The model file of a folder without a manifest: the one that is no other's external data."""
    models = [name for name in files if Path(name).suffix in SUFFIXES]
    data = {name for model in models for name in external_files(folder / model)} if len(models) > 1 else set()
    return next((name for name in models if name not in data), "")


def _files(folder: Path) -> dict[str, str]:
    files = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return files
