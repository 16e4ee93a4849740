"""The hidden folder `.edge-mcp` in a folder of models: its versions, copies on their way, and the state that names them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_mcp.errors import ModelError
from edge_mcp.repository.entry import Entry, derived
from edge_mcp.repository.kept import is_intact, rebuilt
from edge_mcp.repository.manifest import read
from edge_mcp.repository.staging import Staged, pinned
from edge_mcp.repository.state import (
    STATE_NAME,
    BrokenState,
    Model,
    State,
    Version,
    locked,
    read_state,
    sync_folder,
    told,
    write_state,
)

HIDDEN = ".edge-mcp"


class Shelf:
    """The hidden folder of one `repository`. Nothing is made before something is written."""

    def __init__(self, repository: Path, wait_s: float) -> None:
        self.repository = repository
        self.folder = repository / HIDDEN
        self.versions = self.folder / "versions"
        self.staging = self.folder / "staging"
        self._wait_s = wait_s

    def state(self) -> State:
        """What is on disk. A damaged state file is kept aside, and made anew from the versions; the log says so."""
        try:
            return read_state(self.folder) or State()
        except BrokenState:
            with self.writing() as state:
                return state

    def active(self, name: str, model: Model) -> Entry:
        """The active version of a model. Raises: ManifestError, ModelError."""
        version = model.version(model.active)
        if version is None:
            raise ModelError(f"the active version of {name} is not in {self.folder / STATE_NAME}", "Add the model again")
        return self.entry(name, version)

    def entry(self, name: str, version: Version) -> Entry:
        """A version of a model. Raises: ManifestError, ModelError."""
        folder = self.versions / name / version.folder
        manifest = derived(folder / version.bare_file, name) if version.bare_file else read(folder, name)
        entry = Entry(folder, pinned(manifest, version.files), bool(version.bare_file), version.digest, "", self.repository)
        if not entry.file.is_file():
            raise ModelError(f"{entry.file} is missing", "Add the model again")
        return entry

    def keep(self, name: str, staged: Staged) -> None:
        """Move a staged copy to the versions; what is there already and undamaged stays."""
        versions = self.versions
        target = versions / name / staged.version.folder
        if target.exists():
            if is_intact(target, staged.version):
                return
            target.rename(self.staging / f"damaged-{os.getpid()}-{target.name}")
        target.parent.mkdir(exist_ok=True)
        sync_folder(versions)
        staged.folder.rename(target)
        sync_folder(target.parent)

    def save(self, state: State, name: str, model: Model) -> State:
        """The state with another model; it is on disk."""
        changed = State({**state.models, name: model})
        write_state(self.folder, changed)
        return changed

    def make(self) -> None:
        """The folders, and a note that keeps them out of the owner's git."""
        for folder in (self.folder, self.versions, self.staging):
            folder.mkdir(exist_ok=True)
        note = self.folder / ".gitignore"
        if not note.exists():
            note.write_text("*\n", "ascii")

    @contextmanager
    def writing(self) -> Iterator[State]:
        """The state, with nobody else writing."""
        with told(self.folder):
            self.make()
            with locked(self.folder, self._wait_s):
                try:
                    state = read_state(self.folder) or State()
                except BrokenState as error:
                    state = rebuilt(self.versions, error)
                    (self.folder / STATE_NAME).replace(self.folder / f"{STATE_NAME}.broken")
                    write_state(self.folder, state)
                yield state
