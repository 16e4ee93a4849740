"""A model that was found, and what is looked at to find one."""

import re
import stat
from pathlib import Path

import msgspec

from edge_mcp.errors import ManifestError
from edge_mcp.repository.manifest import DEVICE_STATUS, MANIFEST_NAME, SUFFIXES, Manifest, read
from edge_mcp.repository.sections import ModelSection, ToolSection


class Entry(msgspec.Struct, frozen=True):
    """A model found: its folder, and its manifest (derived from the file's name when `bare`).

    `digest` is over all files of a version that is kept (hex); empty where the model is served from where it lies, and then
    `fingerprint` says which state of its files this is. `repository` is the folder of models in which it was found.
    """

    folder: Path
    manifest: Manifest
    bare: bool = False
    digest: str = ""
    fingerprint: str = ""
    repository: Path | None = None

    @property
    def file(self) -> Path:
        """The model file (of a pipeline the first)."""
        return self.folder / self.manifest.model.file

    @property
    def files(self) -> tuple[Path, ...]:
        """The model files: of a pipeline one for each step."""
        return tuple(self.folder / part.model.file for part in self.manifest.parts)

    @property
    def key(self) -> str:
        """Names the model with this very content: `NAME@VERSION-DIGEST8`."""
        mark = (self.digest or self.fingerprint)[:8]
        return f"{self.manifest.model.name}@{self.manifest.model.version}{f'-{mark}' if mark else ''}"


def children(folder: Path) -> list[Path]:
    """What is in a folder of models and not hidden, in a stable order. Raises: ManifestError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ManifestError(f"the model folder {folder} cannot be read: {error.strerror}", "Name one that can") from error


def kind(path: Path) -> str:
    """What a path in a folder of models is: "folder" (with a manifest), "file" (of a model), or "" for anything else.

    Raises: ManifestError where that cannot be known, or its name cannot be printed.
    """
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        what = "folder" if _mode(path / MANIFEST_NAME) else ""
    else:
        what = "file" if path.suffix in SUFFIXES and stat.S_ISREG(mode) else ""
    if what and not path.name.isprintable():
        # it would get into logs and answers, and what is no UTF-8 cannot be kept in the state
        raise ManifestError(f"{path.parent}: a {what} there is called {path.name!r}", "Give it a name that can be printed")
    return what


def in_place(path: Path) -> Entry | None:
    """The model at `path` as it lies there, or None. Raises: ManifestError."""
    match kind(path):
        case "folder":
            return Entry(path, read(path))
        case "file":
            return Entry(path.parent, derived(path), bare=True)
    return None


def derived(file: Path, name: str = "") -> Manifest:
    """The manifest of a bare model file: a tensor tool named after it. `name` is what `bare_name` said where it was found."""
    name = name or bare_name(file)
    ending = "_tflite" if name == f"{_plain_name(file)}-tflite" else ""
    tool = (re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem)[: 64 - len(ending)].strip("_") or "model") + ending
    tool = f"{tool}_model" if tool == DEVICE_STATUS else tool
    description = f"Runs the model {file.name} on tensors: one argument for each of its inputs."
    return Manifest(ModelSection(name, "0.0.0", file.name), ToolSection(tool, file.stem, description))


def bare_name(file: Path) -> str:
    """What the model in a file without a manifest is called: of one network in both formats, each has a name of its own."""
    twin = file.suffix == ".tflite" and file.with_suffix(".onnx").is_file()
    return _plain_name(file) + ("-tflite" if twin else "")


def _plain_name(file: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "model"


def _mode(path: Path) -> int:
    """What is at `path`; 0: nothing. Raises: ManifestError where that cannot be known."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}", "Let this user read it, or move it away") from error
