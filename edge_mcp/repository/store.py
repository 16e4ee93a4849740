"""Finds the models in the repository's folders; reads manifests and states only, never a model that is known already."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from edge_mcp.config import shipped_models
from edge_mcp.errors import EdgeError, ManifestError
from edge_mcp.repository.entry import Entry, children, derived, in_place, kind
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES
from edge_mcp.repository.sources import fingerprint

if TYPE_CHECKING:
    from edge_mcp.repository.versions import Versions

__all__ = ["Entry", "Found", "Store", "derived", "found", "look", "lying", "merged", "scan"]

Found = tuple[list[Entry], list[str]]
"""The models of one folder, and what is wrong with the rest."""


class Store(msgspec.Struct, frozen=True):
    """What a scan found in `folders`: the models in a stable order (by tool name), and what is wrong with the rest."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...]
    folders: tuple[Path, ...] = ()


def scan(folders: Iterable[Path], adopt: bool = True) -> Store:
    """The models in each folder: the active versions, or what lies there where this process keeps none (see `Versions.of`).

    With `adopt`, what was dropped in and is new is taken in first; else it is left out, and nothing is written.
    Of models with one name in several folders the first counts. Of two tools with one name the first counts, and the second
    is a problem; so is what cannot be looked at.
    Raises: ManifestError when a folder cannot be read.
    """
    folders = tuple(folders)
    return merged([found(folder, adopt) for folder in folders], folders)


def look(folders: Iterable[Path]) -> Store:
    """As `scan`, but nothing is written: what is new is listed as it lies there. Raises: ManifestError."""
    folders = tuple(folders)
    parts = []
    for folder in folders:
        entries, problems = found(folder, adopt=False)
        if versions := _versions(folder):
            known = {entry.manifest.model.name for entry in entries}
            for source in versions.candidates():
                if source.name not in known:
                    _add(source.path, folder, entries, problems)
        parts.append((entries, [*problems, *_overlooked(folder)]))
    return merged(parts, folders)


def lying(folders: Iterable[Path]) -> Store:
    """As `look`, but what was dropped in and changed counts as it lies there now, proven or refused or not.

    For whoever works on a model: its manifest as it was last written is meant, not the version that is served meanwhile.
    Raises: ManifestError.
    """
    folders = tuple(folders)
    parts = []
    for folder in folders:
        entries, problems = found(folder, adopt=False)
        if versions := _versions(folder):
            changed = {source.name: source for source in versions.changed()}
            refused = {model.refused.reason for name in changed if (model := versions.state().model(name)).refused}
            entries = [entry for entry in entries if entry.manifest.model.name not in changed]
            problems = [problem for problem in problems if problem not in refused]
            for source in changed.values():
                _add(source.path, folder, entries, problems)
        parts.append((entries, [*problems, *_overlooked(folder)]))
    return merged(parts, folders)


def merged(parts: Iterable[Found], folders: tuple[Path, ...]) -> Store:
    """One store of what was found in several folders, the first of which counts most."""
    models: dict[str, Entry] = {}
    tools: dict[str, Entry] = {}
    problems: list[str] = []
    for entries, wrong in parts:
        problems += wrong
        for entry in entries:
            name, tool = entry.manifest.model.name, entry.manifest.tool.name
            twin = models.get(name)
            if twin and twin.repository != entry.repository:
                continue
            if twin:
                place = entry.file if entry.bare else entry.folder
                problems.append(f"{place}: left out, because {twin.file} has the same name. Rename one of them")
                continue
            if twin := tools.get(tool):
                other = twin.manifest.model.name
                problems.append(f"{name}: left out, because {other} has the tool {tool} already. Give one another tool.name")
                continue
            models[name] = tools[tool] = entry
    return Store(tuple(tools[name] for name in sorted(tools)), tuple(problems), folders)


def found(folder: Path, adopt: bool = True) -> Found:
    """What is in one folder; see `scan`. Raises: ManifestError when it cannot be read."""
    versions = _versions(folder)
    if versions is not None:
        return versions.entries(adopt)
    entries: list[Entry] = []
    problems: list[str] = []
    for path in children(folder):
        _add(path, folder, entries, problems)
    return entries, problems


def _overlooked(folder: Path) -> Iterator[str]:
    """What lies in a folder of models and looks as if it should be one."""
    if os.path.lexists(folder / MANIFEST_NAME):
        yield f"{folder} has a model.toml, and is no folder of models but a model. Name the folder that it lies in"
    for path in children(folder):
        if path.suffix not in SUFFIXES and path.suffix.lower() in SUFFIXES:
            yield f"{path} is overlooked. Write its ending in small letters: {path.suffix.lower()}"
        elif not os.path.lexists(path / MANIFEST_NAME):
            file = next((child for child in _readable(path) if child.suffix in SUFFIXES), None)
            if file is not None:
                yield f"{path} has no model.toml. Write one with edge-mcp models init {file} --out {path}"


def _readable(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it is none, or not to be read."""
    try:
        return children(folder)
    except ManifestError:
        return []


def _versions(folder: Path) -> "Versions | None":
    """See `Versions.of`. What keeps versions is not imported for what ships."""
    if folder.resolve() == shipped_models().resolve():
        return None
    from edge_mcp.repository.versions import Versions

    return Versions.of(folder)


def _add(path: Path, folder: Path, entries: list[Entry], problems: list[str]) -> None:
    """Add the model at `path` as it lies there."""
    try:
        if kind(path) and folder.resolve() != shipped_models().resolve():
            _check_links(path, folder.resolve())
        if entry := in_place(path):
            mark = fingerprint(path, {path.name} if entry.bare else None)
            entries.append(replace(entry, fingerprint=mark, repository=folder))
    except (ManifestError, EdgeError) as error:
        problems.append(str(error))


def _check_links(path: Path, repository: Path) -> None:
    """Raises: ManifestError for a model that is, or has, a link that leads out of the folder of models."""
    try:
        files = [path, *(file for file in path.iterdir() if file.is_symlink())] if path.is_dir() else [path]
        out = next((file for file in files if not file.resolve().is_relative_to(repository)), None)
    except (OSError, RuntimeError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}", "Let this user read it, or move it away") from error
    if out is not None:
        raise ManifestError(f"{out} is a symbolic link that leads out of {repository}", "Copy there what it leads to")
