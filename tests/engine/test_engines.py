"""Models come and go with their use and with the memory there is: real engine processes, real models."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from edge_mcp.engine import client, keeper, room
from edge_mcp.engine.engines import Engines
from edge_mcp.engine.keeper import Keeper
from edge_mcp.engine.memory import PROC, DeviceMemory, fields
from edge_mcp.engine.messages import Item, ModelSpec
from edge_mcp.engine.room import Limits
from edge_mcp.errors import EngineError, ModelError
from tests.engine.test_client import CAT, LONG, ROOT, TEXT, eventually, photo, spec

CALLS = {
    "object-detector": photo(),
    "image-classifier": photo(),
    "face-detector": photo(),
    "language-detector": TEXT,
    "file-identifier": Item(json.dumps({"data": CAT}).encode()),
}
SOON_S = 0.3


class Alone(DeviceMemory):
    """Counts all pages of a process as its own: its share of those that it has in common with others depends on how many
    engines other tests and programs run on this machine meanwhile, and with it what fits a budget."""

    def process_mb(self, pid: int) -> float:
        return fields(PROC / str(pid) / "status").get("VmRSS", 0) / 1024


@asynccontextmanager
async def engines(
    keep_s: float = 60, budget_mb: float | None = None, preload: str = "", lanes: int = 2
) -> AsyncIterator[Engines]:
    limits = None if budget_mb is None else Limits(Alone(), budget_mb, 0)
    made = Engines(lanes, Keeper(keep_s, frozenset(preload.split()), limits))
    try:
        yield made
    finally:
        await made.close()
        assert all(status.pid is None for status in made.status())


async def call(made: Engines, name: str) -> None:
    """One call, which has to be answered."""
    [outcome] = (await made.run(spec(name), [CALLS[name]])).outcomes
    assert not outcome.error


async def test_a_check_runs_what_is_loaded_and_starts_and_keeps_nothing() -> None:
    async with engines(keep_s=SOON_S) as made:
        await made.check()
        assert made.pid is None
        await call(made, "object-detector")
        async with asyncio.timeout(60):
            while made.loaded:
                await made.check()
                await asyncio.sleep(0.02)
        await made.check()


async def test_an_engine_that_hangs_fails_its_check_and_the_next_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CHECK_S", 0.5)
    async with engines() as made:
        await call(made, "object-detector")
        before = made.pid
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        with pytest.raises(EngineError, match=r"failed its check with object-detector.* took longer than 0\.5 s"):
            await made.check()
        await call(made, "object-detector")
        assert made.pid not in (None, before)
        monkeypatch.undo()
        await made.check()


def resources(name: str, **values: object) -> ModelSpec:
    """A model whose manifest says this of its resources."""
    plain = spec(name)
    changed = msgspec.structs.replace(plain.manifest.resources, **values)
    return msgspec.structs.replace(plain, manifest=msgspec.structs.replace(plain.manifest, resources=changed))


def gone(pid: int | None) -> bool:
    return not Path(f"/proc/{pid}").exists()


def alive(made: Engines) -> int:
    assert made.pid is not None
    return made.pid


# ---- time


async def test_an_engine_ends_when_its_last_model_has_been_idle_and_the_next_call_starts_another() -> None:
    async with engines(SOON_S) as made:
        for _ in range(2):
            await call(made, "object-detector")
            await call(made, "language-detector")
            before = alive(made)
            assert made.loaded == {"object-detector", "language-detector"}
            await eventually(lambda: made.pid is None)
            await eventually(lambda pid=before: gone(pid))  # type: ignore[misc]
            assert made.loaded == frozenset()


async def test_a_model_that_is_used_stays_while_another_goes() -> None:
    async with engines(SOON_S) as made:
        await call(made, "language-detector")
        await call(made, "object-detector")
        before = alive(made)
        while "language-detector" in made.loaded:
            await call(made, "object-detector")
        assert made.loaded == {"object-detector"}
        assert made.pid == before


async def test_an_engine_that_only_read_a_signature_ends_too() -> None:
    async with engines(SOON_S) as made:
        await made.describe(str(ROOT / "tests/fixtures/models/mlp_int8.onnx"))
        assert made.pid is not None
        await eventually(lambda: made.pid is None)


async def test_asking_for_the_status_wakes_and_keeps_nothing() -> None:
    async with engines(SOON_S) as made:
        assert [(one.pid, one.models) for one in made.status()] == [(None, [])]
        await call(made, "language-detector")
        [shared] = made.status()
        assert shared.pid == made.pid
        [model] = shared.models
        assert (model.name, model.version, model.preloaded) == ("language-detector", "1.0.0", False)
        assert 1 < model.memory_mb < 30

        def ended() -> bool:
            return not made.is_ready(spec("language-detector")) and not made.status()[0].models and not made.loaded

        await eventually(ended)
        assert made.pid is None


async def test_a_preloaded_model_keeps_its_engine_alive() -> None:
    async with engines(SOON_S, preload="language-detector") as made:
        await made.load(spec("language-detector"))
        await made.load(resources("face-detector", preload=True))
        await call(made, "object-detector")
        before = alive(made)
        await eventually(lambda: "object-detector" not in made.loaded)
        assert made.loaded == {"language-detector", "face-detector"}
        assert made.pid == before


async def test_models_can_be_given_up_at_once() -> None:
    async with engines() as made:
        await call(made, "object-detector")
        await made.shrink(0)
        assert made.pid is None
        await call(made, "language-detector")
        await eventually(lambda: made.pid is None)  # as long as it is not said otherwise
        await made.shrink(1)
        await call(made, "language-detector")
        assert made.loaded == {"language-detector"}


@pytest.mark.parametrize("lanes", [1, 3])
async def test_calls_that_race_with_unloading_are_all_answered(lanes: int) -> None:
    async with engines(0.001, lanes=lanes) as made:

        async def calls(name: str) -> None:
            for _ in range(25):
                await call(made, name)
                await asyncio.sleep(random.uniform(0, 0.004))

        await asyncio.gather(*(calls(name) for name in ("language-detector", "face-detector", "file-identifier")))
        await eventually(lambda: made.pid is None)


async def test_to_unload_a_model_waits_for_its_runs() -> None:
    async with engines() as made:
        await made.load(spec())
        running = asyncio.create_task(made.run(spec(), [photo()] * LONG))
        await asyncio.sleep(0)
        await made.unload("object-detector")
        assert running.done()
        assert len(running.result().outcomes) == LONG
        assert made.loaded == frozenset()
        await made.unload("object-detector")
        await made.unload("never-heard-of")
        await call(made, "object-detector")


# ---- memory


async def test_five_models_called_at_random_stay_within_a_small_budget() -> None:
    budget_mb, seed = 100, random.Random(4)  # all five together need 125 and more
    async with engines(budget_mb=budget_mb) as made:
        unloads = 0
        for _ in range(30):
            before = made.loaded
            await call(made, seed.choice(list(CALLS)))
            unloads += len(before - made.loaded)
            assert Alone().process_mb(alive(made)) <= budget_mb + room.RUNS_MB
        assert unloads >= 10


async def test_calls_at_once_of_more_models_than_fit_wait_for_each_other() -> None:
    async with engines(budget_mb=100) as made:

        async def calls(seed: int) -> None:
            for _ in range(6):
                await call(made, random.Random(seed).choice(list(CALLS)))

        await asyncio.gather(*(calls(seed) for seed in range(5)))


async def test_a_load_waits_for_a_run_that_holds_the_memory_and_fails_when_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "ROOM_S", 60)
    async with engines(budget_mb=100) as made:
        await call(made, "image-classifier")
        await call(made, "object-detector")
        assert made.loaded == {"object-detector"}
        running = asyncio.create_task(made.run(spec(), [photo()] * LONG))
        await asyncio.sleep(0)
        await call(made, "image-classifier")
        assert running.done()
        await call(made, "object-detector")
        monkeypatch.setattr(room, "ROOM_S", 0.05)
        running = asyncio.create_task(made.run(spec(), [photo()] * LONG))
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="memory is short: image-classifier needs") as refused:
            await call(made, "image-classifier")
        assert refused.value.retry_after_ms == 1000
        assert len((await running).outcomes) == LONG


async def test_a_model_that_needs_more_than_its_manifest_allows_is_refused_with_both_figures() -> None:
    async with engines(budget_mb=200) as made:
        for _ in range(2):
            with pytest.raises(ModelError, match=r"object-detector needs [\d.]+ MB, but its resources.memory_mb allows 2 MB"):
                await made.run(resources("object-detector", memory_mb=2), [photo()])
            assert made.loaded == frozenset()
        await made.run(resources("object-detector", memory_mb=60), [photo()])


async def test_a_model_that_cannot_fit_the_budget_at_all_is_refused_with_both_figures() -> None:
    async with engines(budget_mb=40) as made:
        for _ in range(2):
            with pytest.raises(ModelError, match=r"object-detector needs \d+ MB with its engine .* memory_mb allows 40 MB"):
                await call(made, "object-detector")
        assert made.loaded == frozenset()


async def test_when_the_device_is_short_of_memory_idle_models_go_and_then_loads_fail_for_now(tmp_path: Path) -> None:
    def available(mb: int) -> None:
        (tmp_path / "meminfo").write_text(f"MemTotal: 512000 kB\nMemAvailable: {mb * 1024} kB\n")

    available(300)
    made = Engines(1, Keeper(limits=Limits(DeviceMemory(tmp_path, tmp_path), 1000, 32)))
    try:
        await call(made, "language-detector")
        available(20)
        with pytest.raises(EngineError, match="the device has 20 MB, of which it keeps 32 MB free") as refused:
            await call(made, "face-detector")
        assert refused.value.retry_after_ms
        assert made.loaded == {"language-detector"}
        available(90)
        await call(made, "face-detector")
    finally:
        await made.close()


async def test_a_device_that_runs_short_gets_its_memory_back_when_a_call_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LOOK_S", 0)
    (tmp_path / "meminfo").write_text("MemTotal: 512000 kB\nMemAvailable: 400000 kB\n")
    made = Engines(1, Keeper(limits=Limits(DeviceMemory(tmp_path, tmp_path), 1000, 32)))
    try:
        await call(made, "language-detector")
        await call(made, "object-detector")
        (tmp_path / "meminfo").write_text("MemTotal: 512000 kB\nMemAvailable: 20000 kB\n")
        await call(made, "object-detector")
        await eventually(lambda: made.pid is None)
    finally:
        await made.close()


# ---- several engines


async def test_an_isolated_model_has_an_engine_of_its_own_whose_crash_costs_the_others_nothing() -> None:
    isolated = resources("language-detector", isolated=True)
    async with engines() as made:
        await call(made, "object-detector")
        assert not made.is_ready(isolated)
        await made.run(isolated, [TEXT])
        shared, own = made.status()
        assert own.isolated == "language-detector"
        assert own.pid not in (None, shared.pid)
        assert made.loaded == {"object-detector", "language-detector"}
        assert own.pid is not None
        running = asyncio.create_task(made.run(spec(), [photo()] * LONG))
        await asyncio.sleep(0)
        os.kill(own.pid, signal.SIGKILL)
        await made.run(isolated, [TEXT])
        assert made.is_ready(isolated)
        assert len((await running).outcomes) == LONG
        assert made.pid == shared.pid
        await made.unload("language-detector")
        assert [one.isolated for one in made.status()] == [None]


async def test_an_isolated_engine_ends_when_idle_and_starts_again() -> None:
    isolated = resources("language-detector", isolated=True)
    async with engines(SOON_S) as made:
        for _ in range(2):
            await made.run(isolated, [TEXT])
            assert [one.isolated for one in made.status()] == [None, "language-detector"]
            await eventually(lambda: [one.isolated for one in made.status()] == [None])
        assert made.pid is None


async def test_one_budget_holds_for_all_engines() -> None:
    isolated = resources("language-detector", isolated=True)
    async with engines(budget_mb=100) as made:
        await call(made, "object-detector")
        await made.run(isolated, [TEXT])
        assert made.loaded == {"language-detector"}
        await call(made, "object-detector")
        assert made.loaded == {"object-detector"}


# ---- at once, and cancelled


async def test_a_cancelled_caller_does_not_cancel_the_load_for_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with engines(budget_mb=500) as made:
        first, second = [asyncio.create_task(call(made, "object-detector")) for _ in range(2)]
        other = asyncio.create_task(call(made, "language-detector"))
        await eventually(lambda: made.pid is not None)
        first.cancel()
        await asyncio.gather(second, other)
        assert first.cancelled()
        assert len([record for record in caplog.records if "loaded in" in record.message]) == 2


async def test_what_a_cancelled_call_began_keeps_its_model_until_the_engine_has_answered() -> None:
    async with engines(0.01, lanes=1) as made:
        await made.load(spec())
        running = asyncio.create_task(made.run(spec(), [photo()] * LONG))
        await eventually(lambda: made.status()[0].running == 1)
        before = made.pid
        running.cancel()
        while made.status()[0].running:
            assert (made.pid, made.loaded) == (before, frozenset({"object-detector"}))
            await asyncio.sleep(0.005)
        await eventually(lambda: made.pid is None)


async def test_no_use_is_forgotten_and_none_is_left_over() -> None:
    counter = Keeper(60)
    made = Engines(2, counter)
    try:
        tasks = [asyncio.create_task(call(made, name)) for name in CALLS for _ in range(6)]
        for task in tasks[::3]:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: made.status()[0].running == 0)
        await asyncio.sleep(0)
        assert [counter.uses(name) for name in CALLS] == [0] * len(CALLS)
    finally:
        await made.close()
