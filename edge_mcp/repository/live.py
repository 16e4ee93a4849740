"""The models of a server: what is served now, and how a change on disk comes to be served without a lost call."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from edge_mcp.config import shipped_models
from edge_mcp.repository.parts import Part, Prover
from edge_mcp.repository.settling import Settling
from edge_mcp.repository.store import Entry, Found, Store, found, merged

logger = logging.getLogger(__name__)

QUIET_S = 0.25
"""What has changed is looked at when nothing more has happened to it for so long."""


class Repository:
    """The models in some `folders`, of which those in `optional` need not be there. Of two of one name the first counts.

    `store` is what is served now; each of `changed` is called with the store before and after, once that is in place. What
    ships with edge-mcp changes with it only, and is not watched. Raises: ManifestError when another folder cannot be read.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        optional: Collection[Path] = (),
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.changed: list[Callable[[Store, Store], None]] = []
        self.taken: Callable[[str], bool] = lambda tool: False
        """Whether a tool of this name is somebody else's."""
        self.clock = clock
        self.writing: Collection[Path] = ()
        """Files that are being written, as far as was seen."""
        self._quiet_s = quiet_s
        self._optional = frozenset(optional)
        self._parts = {folder: Part() for folder in folders}
        self._settling = Settling()
        self._stirred = asyncio.Event()
        self._released: set[Path] = set()
        for folder, part in self._parts.items():
            if not self.is_absent(folder):
                entries, problems = found(folder)
                part.entries, part.problems = {entry.manifest.model.name: entry for entry in entries}, tuple(problems)
        self.store = self._merged()

    def is_absent(self, folder: Path) -> bool:
        """Whether a folder is not there (or where this user may not look), and need not be."""
        try:
            return folder in self._optional and not folder.is_dir()
        except OSError:
            return True

    # ---- what is told from outside

    def rescan(self) -> None:
        """Look at all folders now, also at those that are not watched."""
        for folder in self._parts:
            self.touch(folder, "", 0.0)

    def released(self, entry: Entry) -> None:
        """Nobody uses this model any more, in whose place there is another: its files may go."""
        if entry.digest and entry.repository in self._parts:
            self._released.add(entry.repository)
            self._stirred.set()

    async def follow(self, prover: Prover) -> None:
        """Follow what changes in the folders, until this is cancelled."""
        watched = [folder for folder in self._parts if folder.resolve() != shipped_models().resolve()]
        if not watched:
            await self._attend(prover)
        from edge_mcp.repository.watch import Watch

        with Watch(watched, lambda folder, name: self.touch(folder, name, self._quiet_s)) as watch:
            self.writing = watch.writing
            for folder in watched:
                if not self.is_absent(folder):
                    self.touch(folder, "", 0.0)  # what changed since it was read
            await self._attend(prover)

    async def _attend(self, prover: Prover) -> None:
        """Do what is due when it is due; nothing wakes meanwhile."""
        from edge_mcp.repository.intake import Intake

        intakes = {folder: Intake(folder, self, prover) for folder in self._parts}
        while True:
            due = self._settling.next()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self.clock())):
                    await self._stirred.wait()
            self._stirred.clear()
            for folder in self._settling.take(self.clock()):
                await intakes[folder].look()
            while self._released:
                await intakes[self._released.pop()].collect()

    # ---- what is asked and told by an intake

    def part(self, folder: Path) -> Part:
        """What is served of a folder."""
        return self._parts[folder]

    def touch(self, folder: Path, name: str, after_s: float) -> None:
        """Look at it when it has been quiet for so long."""
        self._settling.touch((folder, name), self.clock() + after_s)
        self._stirred.set()

    def again(self, folder: Path, after_s: float) -> None:
        """Look at the folder by then, whatever happens."""
        self._settling.again((folder, ""), self.clock() + after_s)
        self._stirred.set()

    def restless(self, folder: Path) -> set[Path]:
        """What in a folder is not to be touched yet."""
        return {folder / name for name in self._settling.restless(folder)} | set(self.writing)

    def is_hidden(self, folder: Path, name: str) -> bool:
        """Whether an earlier folder has a model of this name, which counts."""
        for earlier, part in self._parts.items():
            if earlier == folder:
                return False
            if name in part.entries:
                return True
        return False

    def publish(self) -> None:
        """What is served has changed."""
        before, self.store = self.store, self._merged()
        for problem in self.store.problems:
            if problem not in before.problems:
                logger.warning("%s", " ".join(problem.split()))
        if self.store != before:
            for told in self.changed:
                told(before, self.store)

    def _merged(self) -> Store:
        parts: list[Found] = []
        for part in self._parts.values():
            free, problems = [], list(part.problems)
            for entry in part.entries.values():
                if self.taken(entry.manifest.tool.name):
                    problems.append(f"{entry.folder}: left out, because this server has a tool {entry.manifest.tool.name}")
                else:
                    free.append(entry)
            parts.append((free, problems))
        return merged(parts, tuple(folder for folder in self._parts if not self.is_absent(folder)))
