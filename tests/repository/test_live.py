"""How a change on disk comes to be served: real folders, the kernel's own events, and a prover that says what a test wants."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_mcp.errors import EngineError, ModelError, RefusedError
from edge_mcp.repository import intake
from edge_mcp.repository.live import Repository
from edge_mcp.repository.state import read_state
from edge_mcp.repository.store import Entry, Store
from edge_mcp.repository.versions import Versions
from tests.repository.constants import constant, manifest, write

LIMIT_S = 30.0
QUIET_S = 0.05


class Proving:
    """Proves what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.proven: list[str] = []
        self.ready_for: list[str] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def prove(self, entry: Entry) -> None:
        self.proven.append(entry.manifest.model.version)
        assert entry.file.read_bytes()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)

    async def ready(self, entry: Entry) -> None:
        assert ".edge-mcp/staging" not in str(entry.folder)
        self.ready_for.append(entry.manifest.model.version)


class Live:
    """A repository that is being followed."""

    def __init__(self, *folders: Path, optional: tuple[Path, ...] = ()) -> None:
        self.repository = Repository(folders, optional, quiet_s=QUIET_S)
        self.prover = Proving()
        self.stores: list[Store] = []
        self._changed = asyncio.Event()
        self.repository.changed.append(self._take)

    def _take(self, before: Store, after: Store) -> None:
        assert after is self.repository.store
        self.stores.append(after)
        self._changed.set()

    @property
    def served(self) -> dict[str, str]:
        return {entry.manifest.model.name: entry.manifest.model.version for entry in self.repository.store.entries}

    async def serves(self, **versions: str) -> None:
        """Wait until exactly these models are served."""
        async with asyncio.timeout(LIMIT_S):
            while self.served != versions:
                await self._changed.wait()
                self._changed.clear()

    async def explains(self, *words: str) -> str:
        """Wait until a problem has all these words."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                for problem in self.repository.store.problems:
                    if all(word in problem for word in words):
                        return problem
                await self._changed.wait()
                self._changed.clear()


@asynccontextmanager
async def following(*folders: Path, optional: tuple[Path, ...] = ()) -> AsyncIterator[Live]:
    live = Live(*folders, optional=optional)
    task = asyncio.create_task(live.repository.follow(live.prover))
    try:
        yield live
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def quiet(live: Live, folder: Path) -> None:
    """Have the server take in all that has happened: what comes last is served last."""
    (folder / "last").mkdir()
    (folder / "last" / "model.onnx").write_bytes(constant(1))
    (folder / "last" / "model.toml").write_text(manifest("1.0.0", name="last"))
    async with asyncio.timeout(LIMIT_S):
        while "last" not in live.served:
            await asyncio.sleep(0.01)


async def test_what_was_there_is_served_without_a_proof_and_a_change_with_one(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        assert live.served == {"adder": "1.0.0"}
        write(tmp_path / "adder", 2)
        await live.serves(adder="2.0.0")
        assert (live.prover.proven, live.prover.ready_for) == (["2.0.0"], ["2.0.0"])
        old, new = live.stores[0].entries[0], live.repository.store.entries[0]
        assert new.key.startswith("adder@2.0.0-")
        assert old.key == new.key or old.file.is_file()


async def test_the_same_content_once_more_is_neither_proven_nor_told(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        write(tmp_path / "adder", 1)
        await quiet(live, tmp_path)
        assert live.prover.proven == ["1.0.0"]  # that of `last`
        assert len(live.stores) == 1


@pytest.mark.parametrize("error", [ModelError("it answers nonsense", "Train it"), RefusedError("it ends the engine")])
async def test_what_is_refused_is_explained_and_remembered(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        live.prover.failures = [error]
        write(tmp_path / "adder", 2)
        await live.explains(str(tmp_path / "adder"), str(error))
        assert live.served == {"adder": "1.0.0"}
        live.repository.rescan()
        await quiet(live, tmp_path)
        assert live.prover.proven == ["2.0.0", "1.0.0"]
        assert len([record for record in caplog.records if str(error) in record.getMessage()]) == 1
        state = read_state(tmp_path / ".edge-mcp")
        assert state is not None
        refused = state.model("adder").refused
        assert refused is not None
        assert str(error) in refused.reason
        write(tmp_path / "adder", 3)
        await live.serves(adder="3.0.0", last="1.0.0")
        assert not live.repository.store.problems


async def test_trouble_that_is_not_the_models_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "RETRY_S", 0.2)
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        live.prover.failures = [EngineError("memory is short"), EngineError("memory is short")]
        write(tmp_path / "adder", 2)
        assert "tried again" in await live.explains("adder", "memory is short")
        state = read_state(tmp_path / ".edge-mcp")
        assert state is not None
        assert state.model("adder").refused is None
        await live.serves(adder="2.0.0")
        assert live.prover.proven == ["2.0.0"] * 3
        async with asyncio.timeout(LIMIT_S):
            while live.repository.store.problems:
                await asyncio.sleep(0.01)


async def test_a_lower_version_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "adder", 2)
    async with following(tmp_path) as live:
        write(tmp_path / "adder", 1)
        await live.explains("adder", "--allow-downgrade")
        assert (live.served, live.prover.proven) == ({"adder": "2.0.0"}, [])
        await asyncio.to_thread(Versions(tmp_path).use, "adder", "1.0.0", True)
        await live.serves(adder="1.0.0")
        assert live.prover.proven == ["1.0.0"]


async def test_a_file_that_somebody_still_writes_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        with (tmp_path / "plus.onnx").open("wb", buffering=0) as file, (tmp_path / "other.onnx").open("wb") as idle:
            file.write(constant(1)[:1000])
            await quiet(live, tmp_path)
            file.write(constant(1)[1000:])
            live.repository.rescan()
            write(tmp_path / "adder", 2)
            await live.serves(adder="2.0.0", last="1.0.0")
            idle.write(constant(2))
        await live.serves(adder="2.0.0", last="1.0.0", plus="0.0.0", other="0.0.0")
        assert sorted(live.prover.proven) == ["0.0.0", "0.0.0", "1.0.0", "2.0.0"]
        assert not live.repository.store.problems


async def test_what_is_half_copied_at_the_start_waits_until_it_is_whole(tmp_path: Path) -> None:
    with (tmp_path / "plus.onnx").open("wb", buffering=0) as file:
        file.write(constant(1)[:1000])
        live = Live(tmp_path)
        assert live.served == {}
        file.write(constant(1)[1000:])
    async with following(tmp_path) as live:
        await live.serves(plus="0.0.0")


async def test_a_model_that_vanishes_goes_and_one_that_is_copied_anew_stays(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    (tmp_path / "plus.onnx").write_bytes(constant(1))
    async with following(tmp_path) as live:
        shutil.rmtree(tmp_path / "adder")
        (tmp_path / "plus.onnx").unlink()
        await quiet(live, tmp_path)
        assert live.served == {"adder": "1.0.0", "plus": "0.0.0", "last": "1.0.0"}
        write(tmp_path / "adder", 2)
        await live.serves(adder="2.0.0", plus="0.0.0", last="1.0.0")
        await live.serves(adder="2.0.0", last="1.0.0")
        assert all("adder" in {entry.manifest.model.name for entry in store.entries} for store in live.stores)


async def test_what_is_cleared_away_meanwhile_does_not_take_a_model_that_is_copied_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "GONE_S", 1000.0)
    write(tmp_path / "adder", 1)
    (tmp_path / "plus.onnx").write_bytes(constant(1))
    async with following(tmp_path) as live:
        unknown = tmp_path / ".edge-mcp" / "versions" / "plus" / "unknown"
        unknown.mkdir()
        shutil.rmtree(tmp_path / "adder")
        live.repository.released(live.repository.store.entries[0])
        async with asyncio.timeout(LIMIT_S):
            while unknown.exists():
                await asyncio.sleep(0.01)
        await asyncio.to_thread(Versions(tmp_path).remove, "plus")
        await live.serves(adder="1.0.0")
        write(tmp_path / "adder", 2)
        await live.serves(adder="2.0.0")
        assert all("adder" in {entry.manifest.model.name for entry in store.entries} for store in live.stores)


async def test_a_model_that_was_removed_by_command_goes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "GONE_S", 1000.0)
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        await asyncio.to_thread(Versions(tmp_path).remove, "adder")
        await live.serves()


async def test_while_one_is_proven_the_newest_waits_and_then_wins(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        live.prover.gate.clear()
        write(tmp_path / "adder", 2)
        async with asyncio.timeout(LIMIT_S):
            while not live.prover.proven:
                await asyncio.sleep(0.01)
        for number in (3, 4):
            write(tmp_path / "adder", number)
        assert live.served == {"adder": "1.0.0"}
        live.prover.gate.set()
        await live.serves(adder="4.0.0")
        assert live.prover.proven == ["2.0.0", "4.0.0"]


async def test_a_stop_in_the_middle_leaves_the_old_model_and_nothing_half_done(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        live.prover.gate.clear()
        write(tmp_path / "adder", 2)
        async with asyncio.timeout(LIMIT_S):
            while not live.prover.proven:
                await asyncio.sleep(0.01)
    assert not list((tmp_path / ".edge-mcp" / "staging").iterdir())
    assert Live(tmp_path).served == {"adder": "1.0.0"}
    async with following(tmp_path) as live:
        await live.serves(adder="2.0.0")


async def test_the_first_folder_counts_and_what_it_hides_comes_back(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    write(theirs / "adder", 5)
    async with following(mine, theirs) as live:
        write(mine / "adder", 1)
        await live.serves(adder="1.0.0")
        write(theirs / "adder", 6)
        await quiet(live, theirs)
        assert live.served == {"adder": "1.0.0", "last": "1.0.0"}
        assert live.prover.proven == ["1.0.0", "1.0.0"]  # none of what is hidden
        shutil.rmtree(mine / "adder")
        await live.serves(adder="6.0.0", last="1.0.0")
        assert not live.repository.store.problems


async def test_a_tool_of_somebody_else_keeps_its_name(tmp_path: Path) -> None:
    async with following(tmp_path) as live:
        live.repository.taken = lambda tool: tool == "adder"
        write(tmp_path / "adder", 1)
        await live.explains("left out", "adder")
        assert live.served == {}


async def test_a_folder_that_nobody_has_made_yet_is_no_problem(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    async with following(folder, optional=(folder,)) as live:
        assert (live.served, live.repository.store.problems) == ({}, ())
        write(tmp_path / "draft" / "adder", 1)
        (tmp_path / "draft").rename(folder)
        await live.serves(adder="1.0.0")
        shutil.rmtree(folder)
        await live.serves()
        assert live.repository.store.problems == ()


async def test_what_nobody_uses_any_more_is_deleted(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    versions = tmp_path / ".edge-mcp" / "versions" / "adder"
    async with following(tmp_path) as live:
        for number in range(2, 8):
            before = live.repository.store.entries[0]
            write(tmp_path / "adder", number)
            await live.serves(adder=f"{number}.0.0")
            live.repository.released(before)
        async with asyncio.timeout(LIMIT_S):
            while len(list(versions.iterdir())) > 4:
                await asyncio.sleep(0.01)
        assert live.repository.store.entries[0].file.is_file()


async def test_waiting_for_changes_costs_no_time(tmp_path: Path) -> None:
    write(tmp_path / "adder", 1)
    async with following(tmp_path) as live:
        await quiet(live, tmp_path)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT_S):
            while live.repository._settling.next() is not None:
                await asyncio.sleep(0.01)
        pending = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        assert pending == []
        assert os.path.lexists(tmp_path / ".edge-mcp" / "state.json")
