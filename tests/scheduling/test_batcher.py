"""The batcher before an engine whose lanes open when the test says so."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_mcp.engine.messages import Item, ModelSpec, Outcome, Ran
from edge_mcp.engine.watch import Tell
from edge_mcp.errors import BusyError, EngineError, ModelError
from edge_mcp.repository.store import derived
from edge_mcp.scheduling.batcher import Batcher
from edge_mcp.scheduling.curves import Curves
from edge_mcp.scheduling.knee import Curve
from edge_mcp.scheduling.policy import Allowed


class Engine:
    """Runs when told; answers each item with its own arguments."""

    def __init__(self) -> None:
        self.runs: list[list[bytes]] = []
        self.gate = asyncio.Semaphore(0)
        self.deadly: set[bytes] = set()
        self.error: Exception | None = None
        self.measured: list[str] = []

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        self.measured.append(model.key)
        return {1: 1.0, 2: 1.0, 4: 1.0}

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        self.runs.append([item.arguments for item in items])
        await self.gate.acquire()
        if self.error:
            raise self.error
        if self.deadly & set(self.runs[-1] if len(items) > 1 else [items[0].arguments]):
            raise EngineError("the engine crashed")
        return Ran([Outcome(structured=item.arguments) for item in items], 1.0)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def batcher(engine: Engine) -> Batcher:
    batcher = Batcher(engine, lambda: Allowed(1), clock=lambda: 0.0)
    batcher.service("m").measured(Curve({1: 1.0, 8: 1.0}), 8)
    return batcher


SPEC = ModelSpec("m", "", derived(Path("m.onnx")), {})


def submit(batcher: Batcher, arguments: bytes, deadline_s: float = 100.0, owner: str = "") -> "asyncio.Task[Outcome]":
    return asyncio.ensure_future(batcher.submit(SPEC, Item(arguments), deadline_s, owner))


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_that_come_while_the_lane_is_busy_run_as_one(batcher: Batcher, engine: Engine) -> None:
    tasks = [submit(batcher, b"%d" % n) for n in range(5)]
    await turns()
    assert engine.runs == [[b"0"]]
    assert (batcher.queued, batcher.running) == (4, 1)
    engine.gate.release()
    engine.gate.release()
    assert [outcome.structured for outcome in await asyncio.gather(*tasks)] == [b"0", b"1", b"2", b"3", b"4"]
    assert engine.runs == [[b"0"], [b"1", b"2", b"3", b"4"]]


async def test_twins_are_computed_once(batcher: Batcher, engine: Engine) -> None:
    tasks = [submit(batcher, b"x"), submit(batcher, b"same"), submit(batcher, b"same"), submit(batcher, b"same")]
    await turns()
    tasks[1].cancel()
    await turns()
    engine.gate.release()
    engine.gate.release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert [one.structured for one in outcomes if isinstance(one, Outcome)] == [b"x", b"same", b"same"]
    assert engine.runs == [[b"x"], [b"same"]]


async def test_large_arguments_are_twins_if_every_byte_is_the_same(batcher: Batcher, engine: Engine) -> None:
    picture = bytes(1 << 20)
    other = picture[: 1 << 19] + b"x" + picture[(1 << 19) + 1 :]
    tasks = [submit(batcher, arguments) for arguments in (b"first", picture, other, bytes(1 << 20), picture + b"x")]
    await turns()
    for _ in range(2):
        engine.gate.release()
    assert [one.structured for one in await asyncio.gather(*tasks)][1:] == [picture, other, picture, picture + b"x"]
    assert engine.runs[1] == [picture, other, picture + b"x"]


async def test_what_means_something_else_in_the_other_encoding_is_no_twin(batcher: Batcher, engine: Engine) -> None:
    items = [Item(b"first"), Item(b"1"), Item(b"1", "msgpack"), Item(b"1", "msgpack")]
    tasks = [asyncio.ensure_future(batcher.submit(SPEC, item, 9.0)) for item in items]
    await turns()
    for _ in range(2):
        engine.gate.release()
    await asyncio.gather(*tasks)
    assert engine.runs == [[b"first"], [b"1", b"1"]]


async def test_a_call_with_a_state_has_no_twin(batcher: Batcher, engine: Engine) -> None:
    tasks = [asyncio.ensure_future(batcher.submit(SPEC, Item(b"s"), 9.0, pure=False)) for _ in range(3)]
    await turns()
    for _ in range(3):
        engine.gate.release()
    await asyncio.gather(*tasks)
    assert sum(map(len, engine.runs)) == 3


async def test_a_cancelled_call_is_withdrawn_and_harms_none_beside_it(batcher: Batcher, engine: Engine) -> None:
    tasks = [submit(batcher, b"%d" % n) for n in range(4)]
    await turns()
    tasks[2].cancel()
    await turns()
    engine.gate.release()
    engine.gate.release()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert engine.runs == [[b"0"], [b"1", b"3"]]


async def test_a_cancelled_call_that_runs_already_lets_the_next_one_run(batcher: Batcher, engine: Engine) -> None:
    first, second = submit(batcher, b"0"), submit(batcher, b"1")
    await turns()
    first.cancel()
    await turns()
    engine.gate.release()
    engine.gate.release()
    assert (await second).structured == b"1"
    assert first.cancelled()


async def test_the_lane_of_a_cancelled_run_is_taken_until_it_was_to_be_done(engine: Engine) -> None:
    batcher = Batcher(engine, lambda: Allowed(1), clock=lambda: 0.0)
    batcher.service("m").measured(Curve({1: 0.05}), 1)
    first = submit(batcher, b"0")
    await turns()
    first.cancel()
    await turns()
    assert batcher.running == 1
    engine.gate.release()
    engine.gate.release()
    await submit(batcher, b"1")
    assert engine.runs == [[b"0"], [b"1"]]
    assert (batcher.running, batcher.queued) == (0, 0)


async def test_the_twin_of_a_lone_call_that_is_cancelled_gets_its_answer(batcher: Batcher, engine: Engine) -> None:
    first, second = submit(batcher, b"0"), submit(batcher, b"0")
    await turns()
    assert engine.runs == [[b"0"]]
    first.cancel()
    await turns()
    engine.gate.release()
    engine.gate.release()
    assert (await second).structured == b"0"
    assert first.cancelled()


async def test_a_more_urgent_twin_does_not_wait_for_the_other_which_is_computed_with_it(
    batcher: Batcher, engine: Engine
) -> None:
    batcher.service("m").measured(Curve({1: 1.0}), 1)
    tasks = [submit(batcher, b"x"), submit(batcher, b"same", 90), submit(batcher, b"y", 50), submit(batcher, b"same", 40)]
    await turns()
    for _ in tasks:
        engine.gate.release()
    outcomes = await asyncio.gather(*tasks)
    assert [one.structured for one in outcomes] == [b"x", b"same", b"y", b"same"]
    assert engine.runs == [[b"x"], [b"same"], [b"y"]]


async def test_twins_of_several_owners_and_priorities_are_computed_once_with_the_first(
    batcher: Batcher, engine: Engine
) -> None:
    batcher.service("m").measured(Curve({1: 1.0}), 1)
    first = submit(batcher, b"x")
    await turns()
    twins = [submit(batcher, b"same", 90, "a"), submit(batcher, b"same", 80, "b"), submit(batcher, b"same", 50, "c")]
    twins.append(asyncio.ensure_future(batcher.submit(SPEC, Item(b"same"), 30, "a", background=True)))
    await turns()
    assert batcher.queued == 3
    twins[2].cancel()
    await turns()
    assert batcher.queued == 2
    engine.gate.release()
    await turns()
    assert (engine.runs, batcher.queued) == ([[b"x"], [b"same"]], 0)
    twins[1].cancel()
    engine.gate.release()
    outcomes = await asyncio.gather(first, *twins, return_exceptions=True)
    assert [one.structured for one in outcomes if isinstance(one, Outcome)] == [b"x", b"same", b"same"]
    assert not batcher._twins


async def test_twins_of_two_owners_in_one_batch_are_one_item_of_it(batcher: Batcher, engine: Engine) -> None:
    tasks = [submit(batcher, b"x"), submit(batcher, b"same", owner="a"), submit(batcher, b"same", owner="b")]
    await turns()
    engine.gate.release()
    engine.gate.release()
    assert [one.structured for one in await asyncio.gather(*tasks)] == [b"x", b"same", b"same"]
    assert engine.runs == [[b"x"], [b"same"]]


async def test_who_joined_a_twin_that_nobody_waits_for_any_more_cancels_it_too(batcher: Batcher, engine: Engine) -> None:
    batcher.service("m").measured(Curve({1: 1.0}), 1)
    tasks = [submit(batcher, b"x"), *(submit(batcher, b"same", deadline) for deadline in (90, 80, 70))]
    await turns()
    assert batcher.queued == 1
    for task in (tasks[3], tasks[2], tasks[1]):
        assert batcher.queued == 1
        task.cancel()
        await turns()
    assert batcher.queued == 0
    engine.gate.release()
    await tasks[0]
    assert engine.runs == [[b"x"]]
    assert not batcher._twins


async def test_what_came_to_be_late_is_not_run_and_its_patient_twin_is(engine: Engine) -> None:
    now = 0.0
    batcher = Batcher(engine, lambda: Allowed(1), clock=lambda: now)
    batcher.service("m").measured(Curve({1: 1.0}), 1)
    first = submit(batcher, b"x")
    await turns()
    hasty, patient, other = submit(batcher, b"same", 3), submit(batcher, b"same", 30), submit(batcher, b"y", 20)
    await turns()
    now = 5.0  # the first run takes longer than was foreseen
    engine.gate.release()
    with pytest.raises(BusyError, match="would be done only after its deadline"):
        await hasty
    for _ in range(3):
        engine.gate.release()
    assert [one.structured for one in await asyncio.gather(first, patient, other)] == [b"x", b"same", b"y"]
    assert engine.runs == [[b"x"], [b"y"], [b"same"]]


async def test_a_refused_call_whose_twin_waits_for_another_owner_waits_with_it(engine: Engine) -> None:
    batcher = Batcher(engine, lambda: Allowed(1), clock=lambda: 0.0)
    batcher.service("m").measured(Curve({1: 1.0}), 1)
    tasks = [submit(batcher, b"x"), submit(batcher, b"same", 4, "a"), submit(batcher, b"y", 4, "b")]
    await turns()
    tasks.append(submit(batcher, b"same", 4, "b"))
    await turns()
    for _ in tasks:
        engine.gate.release()
    assert [one.structured for one in await asyncio.gather(*tasks)] == [b"x", b"same", b"y", b"same"]
    assert engine.runs == [[b"x"], [b"same"], [b"y"]]


async def test_the_next_batch_begins_before_the_last_one_is_answered(batcher: Batcher, engine: Engine) -> None:
    seen: list[tuple[str, int]] = []
    tasks = [submit(batcher, b"%d" % n) for n in range(3)]
    for task in tasks:
        task.add_done_callback(lambda _: seen.append(("answered", len(engine.runs))))
    await turns()
    batcher.service("m").measured(Curve({1: 1.0}), 1)
    for _ in tasks:
        engine.gate.release()
    await asyncio.gather(*tasks)
    await turns()
    assert seen == [("answered", 2), ("answered", 3), ("answered", 3)]


async def test_a_call_whose_batch_failed_and_that_nobody_wants_any_more_is_not_run_again(
    batcher: Batcher, engine: Engine
) -> None:
    engine.deadly = {b"2"}
    tasks = [submit(batcher, b"%d" % n) for n in range(4)]
    await turns()
    engine.gate.release()
    await turns()
    tasks[3].cancel()
    await turns()
    for _ in range(3):
        engine.gate.release()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert engine.runs == [[b"0"], [b"1", b"2", b"3"], [b"1"], [b"2"]]


async def test_nothing_is_kept_of_calls_that_are_over(batcher: Batcher, engine: Engine) -> None:
    for number in range(200):
        engine.gate.release()
        await submit(batcher, b"%d" % number, owner=str(number))
    kept = (batcher._twins, batcher._tasks, batcher._scheduler._owners, batcher._scheduler._running)
    assert not any(kept)


async def test_one_that_brings_the_engine_down_takes_none_of_its_batch_with_it(batcher: Batcher, engine: Engine) -> None:
    engine.deadly = {b"2"}
    tasks = [submit(batcher, b"%d" % n) for n in range(4)]
    await turns()
    for _ in range(5):
        engine.gate.release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[2], EngineError)
    assert [one.structured for one in outcomes if isinstance(one, Outcome)] == [b"0", b"1", b"3"]


@pytest.mark.parametrize("error", [ModelError("gone"), RuntimeError("a bug")])
async def test_a_failure_reaches_all_callers_and_the_next_call_runs(batcher: Batcher, engine: Engine, error: Exception) -> None:
    engine.error = error
    tasks = [submit(batcher, b"%d" % n) for n in range(3)]
    await turns()
    engine.gate.release()
    engine.gate.release()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 3
    engine.error = None
    engine.gate.release()
    assert (await submit(batcher, b"9")).structured == b"9"


async def test_what_would_be_late_is_refused_with_when_to_come_again(batcher: Batcher, engine: Engine) -> None:
    first = submit(batcher, b"0")
    await turns()
    with pytest.raises(BusyError, match=r"would be done only after its deadline\. Call again in \d+ ms") as caught:
        await batcher.submit(SPEC, Item(b"1"), 1.5)
    assert caught.value.reason == "deadline"
    assert 500 <= caught.value.retry_after_ms <= 700
    engine.gate.release()
    await first


async def test_what_the_device_allows_is_asked_at_each_call(engine: Engine) -> None:
    allowed = Allowed(1)
    batcher = Batcher(engine, lambda: allowed, clock=lambda: 0.0)
    tasks = [submit(batcher, b"0"), submit(batcher, b"1")]
    await turns()
    assert len(engine.runs) == 1
    allowed = Allowed(3)
    tasks.append(submit(batcher, b"2"))
    await turns()
    assert len(engine.runs) == 3
    for _ in tasks:
        engine.gate.release()
    await asyncio.gather(*tasks)


async def test_a_new_model_is_measured_at_the_first_quiet_moment_and_never_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_mcp.scheduling.batcher.QUIET_S", 0.0)
    curves = Curves(tmp_path)
    batcher = Batcher(engine, lambda: Allowed(1), curves)
    for _ in range(3):
        engine.gate.release()
    await submit(batcher, b"0")
    await turns()
    assert engine.measured == ["m"]
    assert batcher.service("m").knee == 4
    await submit(batcher, b"1")
    await turns()
    again = Batcher(engine, lambda: Allowed(1), curves)
    await submit(again, b"2")
    await turns()
    assert engine.measured == ["m"]
    assert again.service("m").knee == 4


async def test_a_new_model_under_load_without_a_pause_is_measured_all_the_same(engine: Engine) -> None:
    now = 0.0
    batcher = Batcher(engine, lambda: Allowed(1), clock=lambda: now)
    tasks = [submit(batcher, b"%d" % n) for n in range(6)]
    await turns()
    engine.gate.release()
    await turns()
    assert (engine.measured, len(engine.runs)) == ([], 2)
    now = 2.1
    engine.gate.release()
    await turns()
    assert engine.measured == ["m"]
    for _ in tasks:
        engine.gate.release()
    await asyncio.gather(*tasks)
    assert [len(run) for run in engine.runs] == [1, 1, 4]


async def test_a_hot_device_measures_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mcp.scheduling.batcher.QUIET_S", 0.0)
    batcher = Batcher(engine, lambda: Allowed(1), may_measure=lambda: False)
    engine.gate.release()
    await submit(batcher, b"0")
    await turns()
    assert engine.measured == []
