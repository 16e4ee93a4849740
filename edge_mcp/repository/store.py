"""Finds the models in the repository's folders; reads manifests only, never a model."""

import re
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_mcp.errors import ManifestError
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES, Manifest, read
from edge_mcp.repository.sections import ModelSection, ToolSection


class Entry(msgspec.Struct, frozen=True):
    """A model found: its folder, and its manifest (derived from the file's name when `bare`)."""

    folder: Path
    manifest: Manifest
    bare: bool = False

    @property
    def file(self) -> Path:
        """The model file."""
        return self.folder / self.manifest.model.file


class Store(msgspec.Struct, frozen=True):
    """What a scan found in `folders`: the models in a stable order (by tool name), and what is wrong with the rest."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...]
    folders: tuple[Path, ...] = ()


def scan(folders: Iterable[Path]) -> Store:
    """Look for model folders (with a `model.toml`) and bare model files in each folder.

    Of two models with the same name, or two tools with the same name, the first counts and the second is a problem; so is
    what cannot be looked at.
    Raises: ManifestError when a folder cannot be read.
    """
    folders = tuple(folders)
    found: dict[str, Entry] = {}
    tools: dict[str, Entry] = {}
    problems: list[str] = []
    for path in (path for folder in folders for path in _children(folder)):
        try:
            entry = _entry(path)
        except ManifestError as error:
            problems.append(str(error))
            continue
        if entry is None:
            continue
        name, tool = entry.manifest.model.name, entry.manifest.tool.name
        if twin := found.get(name) or tools.get(tool):
            problems.append(f"{path}: left out, because {twin.file} has the same name. Rename one of them")
            continue
        found[name] = tools[tool] = entry
    return Store(tuple(tools[name] for name in sorted(tools)), tuple(problems), folders)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ManifestError(f"the model folder {folder} cannot be read: {error.strerror}", "Name one that can") from error


def _entry(path: Path) -> Entry | None:
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        return Entry(path, read(path)) if _mode(path / MANIFEST_NAME) else None
    if path.suffix not in SUFFIXES or not stat.S_ISREG(mode):
        return None
    return Entry(path.parent, derived(path), bare=True)


def _mode(path: Path) -> int:
    """What is at `path`; 0: nothing. Raises: ManifestError where that cannot be known."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}", "Let this user read it, or move it away") from error


def derived(file: Path) -> Manifest:
    """The manifest of a bare model file: a tensor tool named after it."""
    tool = re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem)[:64].strip("_") or "model"
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "model"
    description = f"Runs the model {file.name} on tensors: one argument for each of its inputs."
    return Manifest(ModelSection(name, "0.0.0", file.name), ToolSection(tool, file.stem, description))
