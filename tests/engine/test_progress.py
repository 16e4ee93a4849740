"""Word of a long run reaches who wants it, and moves the run's deadline."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.messages import Item, Load, Loaded, ModelSpec, Outcome, Progress, Ran, Reply, Request
from edge_mcp.repository.store import derived
from tests.processes import ROOT

MODEL = ModelSpec("m", str(ROOT), derived(ROOT / "m.onnx"), {})
DONE = Ran([Outcome()], 0.5)


class FakeLane:
    def __init__(self) -> None:
        self.progress: Callable[[Progress], None] | None = None
        self.future: asyncio.Future[Reply] | None = None
        self.taken_up = asyncio.Event()

    def request(
        self, message: Request, progress: Callable[[Progress], None], finished: Callable[[], None]
    ) -> "asyncio.Future[Reply]":
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: finished())
        if isinstance(message, Load):
            future.set_result(Loaded(0.25))
        else:
            self.progress, self.future = progress, future
            self.taken_up.set()
        return future


class FakeProcess:
    pid, ended = 1, None

    def __init__(self) -> None:
        self.lanes = [FakeLane()]
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.killed: list[str] = []

    def kill(self, reason: str) -> None:
        self.killed.append(reason)
        future = self.lanes[0].future
        assert future is not None
        future.set_result(DONE)

    async def stop(self, why: str) -> None: ...


@pytest.fixture
async def process() -> FakeProcess:
    return FakeProcess()


def engine(process: FakeProcess, grace_s: float = 5) -> EngineClient:
    async def start(lanes: int) -> Any:
        return process

    return EngineClient(lanes=1, grace_s=grace_s, start=start)


async def test_progress_is_told_and_the_run_measured(process: FakeProcess) -> None:
    client, told = engine(process), list[tuple[int, int]]()
    changes: list[frozenset[str]] = []
    client.changed = lambda: changes.append(client.loaded)
    running = asyncio.create_task(client.run(MODEL, [Item(b"12345")], lambda done, total: told.append((done, total))))
    lane = process.lanes[0]
    await asyncio.wait_for(lane.taken_up.wait(), 30)
    assert lane.progress is not None
    assert lane.future is not None
    lane.progress(Progress(1, 3))
    lane.progress(Progress(2, 3))
    lane.future.set_result(DONE)
    assert await asyncio.wait_for(running, 30) is DONE
    assert told == [(1, 3), (2, 3)]
    assert (client.measured.run_s("m"), client.measured.run_s_per_byte("m"), client.measured.load_s("m")) == (0.5, 0.1, 0.25)
    assert changes == [frozenset(), frozenset({"m"})]
    assert not process.killed


async def test_a_run_that_tells_nothing_more_is_ended(process: FakeProcess) -> None:
    spec = ModelSpec("m", str(ROOT), derived(ROOT / "m.onnx"), {})
    limit = spec.manifest.scheduling.deadline_ms / 1000
    client = engine(process, grace_s=0.01 - limit)
    running = asyncio.create_task(client.run(spec, [Item(b"")]))
    await asyncio.wait_for(running, 30)
    assert process.killed == ["running m took longer than 0.01 s"]


async def test_word_of_a_run_puts_its_end_off(process: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, ends = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    later = loop.call_later

    def call_later(delay: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        handle = later(delay, *rest, **more)
        if delay > 10:
            ends.append(handle)
        return handle

    client = engine(process)
    monkeypatch.setattr(loop, "call_later", call_later)
    running = asyncio.create_task(client.run(MODEL, [Item(b"")]))
    lane = process.lanes[0]
    await asyncio.wait_for(lane.taken_up.wait(), 30)
    assert lane.progress is not None
    assert lane.future is not None
    for _ in range(2):
        lane.progress(Progress(1, 2))
    *before, last = ends[-3:]
    assert all(end.cancelled() for end in before)
    assert not last.cancelled()
    lane.future.set_result(DONE)
    await asyncio.wait_for(running, 30)
    assert last.cancelled()
