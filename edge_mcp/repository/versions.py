"""The versions of models that are kept in one folder of models, in its hidden folder `.edge-mcp`.

A version is a complete, verified copy that never changes: the owner may overwrite what was dropped in at any time. What is
active stands in `state.json`; every change of it is one step, so that power loss leaves the old or the new state.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edge_mcp.config import shipped_models
from edge_mcp.errors import ConfigError, EdgeError, ManifestError, ModelError
from edge_mcp.repository.entry import Entry
from edge_mcp.repository.kept import DowngradeError, activated, delete_unknown, find, has_unknown, refuse_downgrade, without
from edge_mcp.repository.shelf import HIDDEN, Shelf
from edge_mcp.repository.sources import Dropped, dropped
from edge_mcp.repository.staging import SourceChanged, Staged, is_littered, stage, sweep, workspace
from edge_mcp.repository.state import (
    LOCK_WAIT_S,
    STATE_NAME,
    Model,
    Refused,
    Source,
    State,
    sync_folder,
    told,
    write_state,
)
from edge_mcp.repository.writers import files_of, is_written

__all__ = ["HIDDEN", "DowngradeError", "Dropped", "SourceChanged", "Staged", "Versions"]


class _View(msgspec.Struct):
    """By the models' names what was dropped in, what is served, what of it is damaged and why; and which models go."""

    state: State
    sources: dict[str, Dropped]
    problems: list[str]
    entries: dict[str, Entry] = {}
    damaged: dict[str, str] = {}
    gone: set[str] = set()

    def new(self) -> list[Dropped]:
        """What was dropped in, is news, and has no active version."""
        models = ((source, self.state.model(source.name)) for source in self.sources.values())
        return [source for source, model in models if not model.active and _is_news(source, model)]


class Versions:
    """The versions kept in one repository folder. Every method reads the state anew: other processes change it too.

    Methods that write wait for other writers, at most `wait_s`; `stage` takes as long as copying takes: call both in a
    thread where something else must go on. All of them raise ConfigError where the folder cannot be read or written.
    """

    def __init__(self, repository: Path, wait_s: float = LOCK_WAIT_S) -> None:
        self.repository = repository
        self.folder = repository / HIDDEN
        self._shelf = Shelf(repository, wait_s)

    @classmethod
    def of(cls, folder: Path) -> "Versions | None":
        """The versions kept in `folder`; None where models are served from where they lie: shipped, or not writable."""
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK) or folder.resolve() == shipped_models().resolve():
            return None
        versions = cls(folder)
        if versions.folder.is_symlink() or (versions.folder.exists() and not os.access(versions.folder, os.W_OK | os.X_OK)):
            return None
        return versions

    def state(self) -> State:
        """What is on disk. A damaged state file is kept aside, and made anew from the versions; the log says so."""
        return self._shelf.state()

    def entries(self, adopt: bool = True) -> tuple[list[Entry], list[str]]:
        """The active versions, and what is wrong with the rest; also that the disk is full, or another writer does not finish.

        With `adopt`, what was dropped in and is not known yet is taken in at once (copied and verified, not loaded), and what
        nobody needs is deleted. Without, nothing is written, and what is not known is left out. A changed source of a known
        model is one of the `candidates`, and the active version is served.
        Raises: ManifestError when the folder cannot be read.
        """
        try:
            view = self._view()
        except ConfigError as error:
            return [], [str(error)]
        troubles: list[str] = []
        if adopt and self._has_work(view):
            try:
                troubles += self._adopted(view)
                self.collect()
            except ConfigError as error:
                troubles.append(str(error))
            view = self._view()
        return list(view.entries.values()), [*view.problems, *view.damaged.values(), *troubles]

    def candidates(self) -> list[Dropped]:
        """What was dropped in or changed, and is neither taken in nor refused as it is now."""
        state = self.state()
        sources, _ = dropped(self.repository, state.models)
        return [source for source in sources if _is_news(source, state.model(source.name))]

    def changed(self) -> list[Dropped]:
        """The `candidates`, and what was refused as it is now."""
        state = self.state()
        sources, _ = dropped(self.repository, state.models)
        return [source for source in sources if not _is_taken(source, state.model(source.name))]

    def stage(self, source: Dropped, extra: Mapping[str, bytes] | None = None) -> Staged:
        """A verified copy of `source`, which may lie elsewhere too, with `extra` files instead of or beside its own.

        Raises: ManifestError, ModelError (to be shown to the user), SourceChanged (try again when it is at rest).
        """
        with told(self.folder):
            self._shelf.make()
            return stage(self._shelf.staging, source, self.repository, extra)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder to unpack in, on the same disk; deleted afterwards, at the latest at the next start."""
        with told(self.folder):
            self._shelf.make()
            with workspace(self._shelf.staging) as folder:
                yield folder

    def check_downgrade(self, staged: Staged, allowed: bool = False) -> None:
        """Whether it may become active, asked before the work of proving it. Raises: DowngradeError."""
        name = staged.entry.manifest.model.name
        refuse_downgrade(name, staged.version.version, self.state().model(name), allowed)

    def commit(self, staged: Staged, allow_downgrade: bool = False) -> Entry:
        """Make a staged copy the active version; what was active stays until the next change.

        The copy is moved or deleted, also when this fails. Raises: DowngradeError.
        """
        name, version = staged.entry.manifest.model.name, staged.version
        try:
            with self._shelf.writing() as state:
                model = state.model(name)
                refuse_downgrade(name, version.version, model, allow_downgrade)
                self._shelf.keep(name, staged)
                source = Source(staged.source, staged.fingerprint) if staged.source else model.source
                added = model.added or not staged.source
                model = replace(activated(model, version), source=source, added=added, refused=None)
                delete_unknown(self._shelf.versions, self._shelf.save(state, name, model))
                return self._shelf.active(name, model)
        finally:
            staged.discard()

    def refuse(self, source: Dropped, reason: str) -> None:
        """Remember that a source, as it is now, is not served; the active version stays."""
        with self._shelf.writing() as state:
            refused = Refused(source.fingerprint, reason)
            self._shelf.save(state, source.name, replace(state.model(source.name), refused=refused))

    def use(self, name: str, version: str, allow_downgrade: bool = False) -> Entry:
        """Make a version the active one: one that is kept, or what was dropped in. `version` is a number, or its folder's name.

        Raises: ConfigError (there is none), DowngradeError, ManifestError, ModelError.
        """
        if self.kept(name, version) is None and (staged := self.staged_of(name, version)):
            return self.commit(staged, allow_downgrade)
        with self._shelf.writing() as state:
            model = state.model(name)
            chosen = find(model, version)
            if chosen is None:
                known = ", ".join(dict.fromkeys(kept.version for kept in model.versions))
                hint = f"There is {known}" if known else "See edge-mcp models list"
                raise ConfigError(f"no version {version} of {name} is kept", hint)
            if chosen.folder != model.active:
                refuse_downgrade(name, chosen.version, model, allow_downgrade)
                model = activated(model, chosen)
                self._shelf.save(state, name, model)
            return self._shelf.active(name, model)

    def kept(self, name: str, version: str = "") -> Entry | None:
        """A version that is kept, by number or folder, or the active one; None where there is none. Raises: ManifestError."""
        model = self.state().model(name)
        chosen = find(model, version) if version else model.version(model.active)
        return None if chosen is None else self._shelf.entry(name, chosen)

    def remove(self, name: str, version: str = "") -> list[Path]:
        """Delete a model with all its versions and what was dropped in, or one version that is not active.

        What of the owner's was deleted is returned. The highest version that was active is remembered. Raises: ConfigError.
        """
        with self._shelf.writing() as state:
            model = state.models.get(name)
            if model is None or not (model.versions or model.source or model.refused):
                raise ConfigError(f"there is no model {name!r} in {self.repository}", "See edge-mcp models list")
            if version:
                self._shelf.save(state, name, without(name, version, model))
                deleted = []
            else:
                deleted = self._taken_away(name, model, state)
                self._shelf.save(state, name, Model(highest=model.highest))
        self.collect(state.models)
        return deleted

    def collect(self, keep: Collection[str] = ()) -> None:
        """Forget models whose source is gone; delete versions that the state does not name, and copies left behind.

        Models in `keep` are not forgotten: they are still served, and their source may be on its way back.
        """
        if not self.folder.is_dir():
            return
        with self._shelf.writing() as state:
            here = {source.name: source for source in dropped(self.repository, state.models)[0]}
            gone = {
                name: model for name, model in state.models.items() if name not in keep and self._is_gone(name, model, here)
            }
            if gone:
                forgotten = {name: Model(highest=model.highest) for name, model in gone.items()}
                state = State({**state.models, **forgotten})
                write_state(self.folder, state)
            delete_unknown(self._shelf.versions, state)
            sweep(self._shelf.staging)
            for path in self.folder.glob(f"{STATE_NAME}.[0-9]*"):
                path.unlink()

    def _view(self) -> _View:
        """What the state and the folder say, without writing anything."""
        state = self.state()
        sources, problems = dropped(self.repository, state.models)
        view = _View(state, {source.name: source for source in sources}, problems)
        for name, model in state.models.items():
            if self._is_gone(name, model, view.sources):
                view.gone.add(name)
                continue
            source = view.sources.get(name)
            if source and model.refused and model.refused.fingerprint == source.fingerprint:
                view.problems.append(model.refused.reason)
            if model.active:
                try:
                    view.entries[name] = self._shelf.active(name, model)
                except EdgeError as error:
                    view.damaged[name] = str(error)
        return view

    def _has_work(self, view: _View) -> bool:
        """Whether there is something to take in, or to delete."""
        if view.gone or view.new() or any(name in view.sources for name in view.damaged):
            return True
        return self.folder.is_dir() and (is_littered(self._shelf.staging) or has_unknown(self._shelf.versions, view.state))

    def _adopted(self, view: _View) -> list[str]:
        """Take in the sources of models that are not served yet; what is wrong with them is remembered."""
        problems = []
        for source in [*view.new(), *(view.sources[name] for name in view.damaged if name in view.sources)]:
            if is_written(files_of(source.path)):
                continue  # a server takes it in when it is closed
            try:
                self.commit(self.stage(source))
            except SourceChanged as error:
                problems.append(str(error))
            except (ManifestError, ModelError) as error:
                self.refuse(source, str(error))
            except EdgeError as error:
                problems.append(f"{source.path}: {error}")
        return problems

    def _is_gone(self, name: str, model: Model, here: Mapping[str, Dropped]) -> bool:
        """Whether the model goes because what was dropped in is not there any more."""
        if model.added or model.source is None or name in here:
            return False
        return not os.path.lexists(self.repository / model.source.path)

    def staged_of(self, name: str, version: str) -> Staged | None:
        """A copy of what was dropped in, if it is this version. Raises: as `stage`."""
        sources, _ = dropped(self.repository, self.state().models)
        source = next((source for source in sources if source.name == name), None)
        if source is None:
            return None
        staged = self.stage(source)
        if version in (staged.version.version, staged.version.folder):
            return staged
        staged.discard()
        return None

    def _taken_away(self, name: str, model: Model, state: State) -> list[Path]:
        """Move what was dropped in to where it is deleted from: in one step for each file or folder."""
        if model.source is None:
            sources = [source.path for source in dropped(self.repository, state.models)[0] if source.name == name]
        else:
            own = {file for one in model.versions if one.bare_file == model.source.path for file in one.files}
            others = {file for other, one in state.models.items() if other != name for v in one.versions for file in v.files}
            sources = [self.repository / file for file in (model.source.path, *sorted(own - others - {model.source.path}))]
        deleted = []
        for path in sources:
            if os.path.lexists(path):
                trash = self._shelf.staging / f"removed-{os.getpid()}-{path.name}"[:200]
                path.rename(trash)
                sync_folder(self.repository)
                deleted.append(path)
        return deleted


def _is_taken(source: Dropped, model: Model) -> bool:
    taken = model.source
    return taken is not None and taken.path == source.path.name and taken.fingerprint == source.fingerprint


def _is_news(source: Dropped, model: Model) -> bool:
    is_refused = model.refused is not None and model.refused.fingerprint == source.fingerprint
    return not is_refused and not _is_taken(source, model)
