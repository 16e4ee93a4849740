"""Takes in what changed in one folder of models: copied, verified, proven (loaded and warmed up), and only then served.

What was served before stays until then, and for good where the new one is refused. One at a time; the newest wins.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_mcp.errors import EdgeError, ManifestError, ModelError, RefusedError
from edge_mcp.repository.onnx_file import external_files
from edge_mcp.repository.parts import Prover, Whole
from edge_mcp.repository.store import Entry, found
from edge_mcp.repository.versions import Dropped, SourceChanged, Staged, Versions
from edge_mcp.repository.writers import files_of, is_written

logger = logging.getLogger(__name__)

GONE_S = 2.0
"""What vanished may be on its way back, as when a folder is deleted and copied anew."""
RETRY_S = 5.0
MAX_RETRY_S = 300.0
T = TypeVar("T")


class _Seen(msgspec.Struct):
    """What a folder holds: its models by name, what is wrong, which were removed on purpose, and what could be taken in."""

    entries: dict[str, Entry] = {}
    problems: list[str] = []
    removed: frozenset[str] = frozenset()
    candidates: list[Dropped] = []


class _Delay(msgspec.Struct):
    """After trouble that is not the model's: when it is tried again, and what happened."""

    until: float
    seconds: float
    problem: str


class Intake:
    """One folder of a `repository`."""

    def __init__(self, folder: Path, repository: Whole, prover: Prover) -> None:
        self._folder = folder
        self._repository = repository
        self._prover = prover
        self._gone: dict[str, float] = {}
        self._failed: dict[str, str] = {}  # by the key of what was chosen or lies there, and cannot be served
        self._delays: dict[str, _Delay] = {}

    async def look(self) -> None:
        """Serve what has changed, as far as it can be."""
        try:
            await self._look()
        except (EdgeError, OSError) as error:
            self._postpone("", f"{self._folder}: {error}")
        except Exception:
            logger.exception("the models in %s could not be looked at", self._folder)

    async def collect(self) -> None:
        """Delete versions that nobody needs any more."""
        versions = Versions.of(self._folder)
        if versions is not None:
            try:
                await _whole(versions.collect, frozenset(self._repository.part(self._folder).entries))
            except EdgeError as error:
                logger.warning("%s", error)

    # ---- looking

    async def _look(self) -> None:
        seen = await _whole(self._read)
        self._delays.pop("", None)
        part = self._repository.part(self._folder)
        before, now, changed = part.entries, self._leaving(seen), []
        for name, entry in seen.entries.items():
            old = before.get(name)
            if old is not None and old.key == entry.key:
                now[name] = old if old == entry else entry
                continue
            changed.append(entry)
            if old is not None:
                now[name] = old
        self._failed = {entry.key: self._failed[entry.key] for entry in changed if entry.key in self._failed}
        self._delays = {name: delay for name, delay in self._delays.items() if name in seen.entries or _names(seen, name)}
        part.entries = now
        part.problems = (*seen.problems, *self._failed.values(), *(delay.problem for delay in self._delays.values()))
        self._repository.publish()
        for entry in changed:
            await self._follow(entry)
        for source in seen.candidates:
            if not self._is_delayed(source.name) and not await self._is_restless(source.path, source.bare):
                await self._take(source)

    def _read(self) -> _Seen:
        """What the disk says. Raises: EdgeError, OSError."""
        if not self._folder.is_dir():
            absent = self._repository.is_absent(self._folder)
            return _Seen(problems=[] if absent else [f"the model folder {self._folder} is not there any more"])
        versions = Versions.of(self._folder)
        entries, problems = found(self._folder, adopt=False)
        seen = _Seen({entry.manifest.model.name: entry for entry in entries}, problems)
        if versions is not None:
            seen.removed = frozenset(name for name, model in versions.state().models.items() if not model.active)
            seen.candidates = versions.candidates()
        return seen

    def _leaving(self, seen: _Seen) -> dict[str, Entry]:
        """Models that are not on the disk any more, and may be on their way back."""
        before, now = self._repository.part(self._folder).entries, self._repository.clock()
        gone = before.keys() - seen.entries.keys() - seen.removed
        self._gone = {name: self._gone.get(name, now) for name in gone}
        staying = {name: before[name] for name, since in self._gone.items() if now < since + GONE_S}
        for name in staying:
            self._repository.again(self._folder, self._gone[name] + GONE_S - now)
        for name in gone - staying.keys():
            logger.info("%s is gone", name)
        return staying

    async def _is_restless(self, path: Path, bare: bool) -> bool:
        """Whether somebody may still be writing it: its next event tells when that is over."""
        restless = self._repository.restless(self._folder)

        def is_restless() -> bool:
            files = (
                [path.parent / name for name in (path.name, *external_files(path, strict=False))] if bare else files_of(path)
            )
            return bool(restless.intersection((path, *files))) or is_written(files)

        return await _whole(is_restless)

    # ---- serving

    async def _follow(self, entry: Entry) -> None:
        """Serve a version that somebody has chosen or taken in, or a model where it lies."""
        name, place = entry.manifest.model.name, entry.file if entry.bare else entry.folder
        if entry.key in self._failed or self._is_delayed(name):
            return
        if not entry.digest and await self._is_restless(place, entry.bare):
            return
        try:
            await self._prove(entry)
        except (ManifestError, ModelError, RefusedError) as error:
            self._failed[entry.key] = _reason(error, place, place)
            self._repository.again(self._folder, 0)
        except (EdgeError, OSError) as error:
            self._postpone(name, _reason(error, place, place))
        else:
            self._delays.pop(name, None)
            await self._serve(entry)

    async def _take(self, source: Dropped) -> None:
        """Take in what was dropped in."""
        versions = Versions(self._folder)
        staged: Staged | None = None
        try:
            staged = await _whole(versions.stage, source)
            await _whole(versions.check_downgrade, staged)
            await self._prove(staged.entry)
            entry = await _whole(versions.commit, staged)
        except SourceChanged:
            self._repository.touch(self._folder, source.path.name, 0.25)
        except (ManifestError, ModelError, RefusedError) as error:
            self._delays.pop(source.name, None)
            reason = _reason(error, staged.folder if staged else source.path, source.path)
            await _whole(versions.refuse, source, reason)
            self._repository.again(self._folder, 0)
        except (EdgeError, OSError) as error:
            self._postpone(source.name, _reason(error, staged.folder if staged else source.path, source.path))
        else:
            self._delays.pop(source.name, None)
            await self._serve(entry)
            self._repository.again(self._folder, 0)
        finally:
            if staged is not None:
                await _whole(staged.discard)

    async def _prove(self, entry: Entry) -> None:
        name = entry.manifest.model.name
        old = self._repository.part(self._folder).entries.get(name)
        if (old is None or old.key != entry.key) and not self._repository.is_hidden(self._folder, name):
            await self._prover.prove(entry)

    async def _serve(self, entry: Entry) -> None:
        """Put it in the place of the one of its name, in one step."""
        name, part = entry.manifest.model.name, self._repository.part(self._folder)
        if (old := part.entries.get(name)) == entry:
            return
        if not self._repository.is_hidden(self._folder, name):
            await self._prover.ready(entry)
        part.entries = {**part.entries, name: entry}
        self._repository.publish()
        logger.info("%s %s is served%s", name, entry.manifest.model.version, f", before it {old.key}" if old else "")

    # ---- later

    def _is_delayed(self, name: str) -> bool:
        delay = self._delays.get(name)
        return delay is not None and self._repository.clock() < delay.until

    def _postpone(self, name: str, problem: str) -> None:
        last = self._delays.get(name)
        seconds = min(MAX_RETRY_S, last.seconds * 2) if last else RETRY_S
        self._delays[name] = _Delay(self._repository.clock() + seconds, seconds, f"{problem} (it is tried again)")
        part = self._repository.part(self._folder)
        part.problems = (*(one for one in part.problems if not last or one != last.problem), self._delays[name].problem)
        self._repository.publish()
        self._repository.again(self._folder, seconds)


def _names(seen: _Seen, name: str) -> bool:
    return any(source.name == name for source in seen.candidates)


def _reason(error: Exception, copy: Path, path: Path) -> str:
    """What is wrong with the model at `path`, which the error may know by its copy."""
    text = str(error).replace(str(copy), str(path))
    return text if str(path) in text else f"{path}: {text}"


async def _whole(work: Callable[..., T], *arguments: object) -> T:
    """Do it in a thread, to its end: also when this is cancelled meanwhile."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
