"""The engine as the server sees it: real engine processes, killed, crashed and hung."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from edge_mcp.engine.client import EngineClient
from edge_mcp.engine.messages import Item, ModelSpec, Outcome, Ran
from edge_mcp.engine.process import EngineProcess
from edge_mcp.errors import EngineError, ModelError, RefusedError
from edge_mcp.repository.manifest import read
from edge_mcp.repository.sections import Scheduling
from edge_mcp.tools.arguments import input_schema

ROOT = Path(__file__).parents[2]
CAT = base64.b64encode((ROOT / "tests/fixtures/chelsea.png").read_bytes()).decode()
TEXT = Item(json.dumps({"text": "Le serveur fonctionne sur un petit ordinateur."}).encode())
LONG = 80  # items: a run that lasts for about a second


def spec(name: str = "object-detector", deadline_ms: int = 60_000) -> ModelSpec:
    folder = ROOT / "models" / name
    manifest = msgspec.structs.replace(read(folder), scheduling=Scheduling(deadline_ms))
    return ModelSpec(name, str(folder), manifest, input_schema(manifest, None))


def photo(**arguments: object) -> Item:
    return Item(json.dumps({"image": CAT, **arguments}).encode())


def best_label(outcome: Outcome) -> str:
    assert not outcome.error
    return str(json.loads(outcome.structured)["detections"][0]["label"])


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another process is about to do."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def engine() -> AsyncIterator[EngineClient]:
    client = EngineClient(lanes=2)
    yield client
    await client.close()
    assert client.pid is None


def pid(engine: EngineClient) -> int:
    assert engine.pid is not None
    return engine.pid


async def running(engine: EngineClient, item: Item, deadline_ms: int = 60_000) -> "asyncio.Task[Ran]":
    """A long run that the engine has taken up."""
    await engine.load(spec())
    task = asyncio.create_task(engine.run(spec(deadline_ms=deadline_ms), [item] * LONG))
    await eventually(lambda: engine.busy > 0)
    used = _cpu(pid(engine))
    await eventually(lambda: _cpu(pid(engine)) > used + 15)
    return task


def _cpu(process: int) -> int:
    """CPU ticks that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_the_engine_starts_on_first_need_and_answers_each_item(engine: EngineClient) -> None:
    assert engine.pid is None
    ran = await engine.run(spec(), [photo(), Item(b"{}"), photo()])
    assert [best_label(ran.outcomes[0]), best_label(ran.outcomes[2])] == ["Cat", "Cat"]
    assert "image is missing" in ran.outcomes[1].error
    assert ran.seconds > 0


async def test_a_signature_is_read_without_a_manifest(engine: EngineClient) -> None:
    described = await engine.describe(str(ROOT / "tests/fixtures/models/mlp_int8.onnx"))
    assert [spec.datatype for spec in described.signature.inputs] == ["FP32"]
    with pytest.raises(ModelError):
        await engine.describe(str(ROOT / "README.md"))


async def test_an_engine_killed_between_calls_is_replaced_and_the_next_call_works(engine: EngineClient) -> None:
    for _ in range(3):
        assert best_label((await engine.run(spec(), [photo()])).outcomes[0]) == "Cat"
        os.kill(pid(engine), signal.SIGKILL)
    assert best_label((await engine.run(spec(), [photo()])).outcomes[0]) == "Cat"


async def test_a_call_that_the_engine_had_taken_up_fails_with_the_reason_and_the_next_works(engine: EngineClient) -> None:
    task = await running(engine, photo())
    os.kill(pid(engine), signal.SIGKILL)
    with pytest.raises(EngineError, match=r"killed from outside \(SIGKILL\) while (decoding|running)") as died:
        await task
    assert died.value.retry_after_ms == 0
    assert best_label((await engine.run(spec(), [photo()])).outcomes[0]) == "Cat"


async def test_calls_that_waited_for_a_lane_are_run_by_the_next_engine(engine: EngineClient) -> None:
    taken_up = [await running(engine, photo()), await running(engine, photo(threshold=0.5))]
    waiting = [asyncio.create_task(engine.run(spec(), [photo()])) for _ in range(4)]
    await asyncio.sleep(0)
    os.kill(pid(engine), signal.SIGKILL)
    for task in taken_up:
        with pytest.raises(EngineError):
            await task
    for ran in await asyncio.gather(*waiting):
        assert best_label(ran.outcomes[0]) == "Cat"


async def test_an_idle_engine_that_is_killed_costs_no_call_of_a_model_that_is_not_loaded(engine: EngineClient) -> None:
    for _ in range(8):
        await engine.load(spec())
        os.kill(pid(engine), signal.SIGKILL)
        [outcome] = (await engine.run(spec("language-detector"), [TEXT])).outcomes
        assert json.loads(outcome.structured)["label"] == "fr"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_an_engine_that_ends_while_a_model_is_loaded_costs_no_call(engine: EngineClient, number: signal.Signals) -> None:
    calls = [asyncio.create_task(engine.run(spec(), [photo()])) for _ in range(16)]
    await eventually(lambda: engine.pid is not None and engine.busy > 0)
    os.kill(pid(engine), number)
    for ran in await asyncio.gather(*calls):
        assert best_label(ran.outcomes[0]) == "Cat"


async def test_a_model_whose_loading_crashes_the_engine_is_refused() -> None:
    async def start(lanes: int) -> EngineProcess:
        process = await EngineProcess.start(lanes)
        os.kill(process.pid, signal.SIGSEGV)
        return process

    engine = EngineClient(lanes=2, start=start)
    with pytest.raises(EngineError, match="crashed"):
        await engine.load(spec())
    with pytest.raises(RefusedError, match="ended the engine twice"):
        await engine.load(spec())
    await engine.close()


async def test_nothing_is_sent_to_the_makers_of_the_runtimes(
    engine: EngineClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)  # in which ONNX Runtime keeps quiet of its own accord
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    await engine.run(spec(), [photo()])
    assert not list(tmp_path.iterdir())
    open_files = [str(link.readlink()) for link in Path(f"/proc/{pid(engine)}/fd").iterdir()]
    assert len([target for target in open_files if target.startswith("socket:")]) == 2, "one for each lane"


async def test_a_request_that_crashes_the_engine_twice_is_refused_and_others_are_not(engine: EngineClient) -> None:
    item = photo(threshold=0.3)
    for _ in range(2):
        task = await running(engine, item)
        os.kill(pid(engine), signal.SIGSEGV)
        with pytest.raises(EngineError, match=r"crashed \(SIGSEGV\)"):
            await task
    with pytest.raises(RefusedError, match="ended the engine twice"):
        await engine.run(spec(), [item] * LONG)
    assert best_label((await engine.run(spec(), [photo()])).outcomes[0]) == "Cat"


async def test_being_killed_from_outside_is_not_held_against_a_request(engine: EngineClient) -> None:
    for _ in range(3):
        task = await running(engine, photo())
        os.kill(pid(engine), signal.SIGKILL)
        with pytest.raises(EngineError):
            await task
    assert len((await engine.run(spec(), [photo()] * LONG)).outcomes) == LONG


async def test_an_innocent_suspect_is_cleared_by_running_alone(engine: EngineClient) -> None:
    task = await running(engine, photo())
    os.kill(pid(engine), signal.SIGSEGV)
    with pytest.raises(EngineError):
        await task
    for _ in range(2):
        assert len((await engine.run(spec(), [photo()] * LONG)).outcomes) == LONG


async def test_a_hung_run_is_ended_at_its_deadline_plus_grace() -> None:
    engine = EngineClient(lanes=1, grace_s=0.2)
    try:
        task = await running(engine, photo(), deadline_ms=40)
        os.kill(pid(engine), signal.SIGSTOP)
        with pytest.raises(EngineError, match=r"took longer than 3\.4 s"):
            await task
        assert best_label((await engine.run(spec(), [photo()])).outcomes[0]) == "Cat"
    finally:
        await engine.close()


async def test_a_cancelled_call_leaves_the_queue_and_harms_no_other() -> None:
    engine = EngineClient(lanes=1)
    try:
        task = await running(engine, photo(), 50)
        waiting = [asyncio.create_task(engine.run(spec(), [photo()])) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        for done in (waiting[0], waiting[2]):
            assert best_label((await done).outcomes[0]) == "Cat"
        assert waiting[1].cancelled()
        assert task.done()
    finally:
        await engine.close()


async def test_cancelling_a_running_call_keeps_its_lane_until_the_engine_has_answered() -> None:
    engine = EngineClient(lanes=1)
    try:
        task = await running(engine, photo())
        before = pid(engine)
        task.cancel()
        assert best_label((await engine.run(spec(), [photo()])).outcomes[0]) == "Cat"
        assert pid(engine) == before
    finally:
        await engine.close()


async def test_models_are_loaded_once_however_many_ask(engine: EngineClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await asyncio.gather(*(engine.run(spec(), [photo()]) for _ in range(8)))
    assert len([record for record in caplog.records if "loaded in" in record.message]) == 1


async def test_a_model_that_does_not_match_its_digest_is_refused_with_both(engine: EngineClient) -> None:
    good = spec()
    wrong = msgspec.structs.replace(good.manifest.model, sha256="0" * 64)
    bad = msgspec.structs.replace(good, key="other", manifest=msgspec.structs.replace(good.manifest, model=wrong))
    with pytest.raises(ModelError, match="0000") as refused:
        await engine.run(bad, [photo()])
    assert good.manifest.model.sha256[:8] in str(refused.value)


async def test_an_engine_ends_with_its_server() -> None:
    script = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from tests.engine.test_client import *
async def main():
    engine = EngineClient(lanes=2)
    await engine.load(spec())
    print(engine.pid, flush=True)
    await engine.run(spec(), [photo()] * 200)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script, str(ROOT)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        engine_pid = int(server.stdout.readline())
        server.kill()
    await eventually(lambda: not Path(f"/proc/{engine_pid}").exists() or _state(engine_pid) == "Z")


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


async def test_new_engines_are_started_with_growing_delay_while_none_completes_a_request() -> None:
    now = 0.0
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        delays.append(seconds)
        now += seconds

    async def start(lanes: int) -> EngineProcess:
        process = await EngineProcess.start(lanes)
        process.kill("the test says so")
        await process.exited
        return process

    engine = EngineClient(lanes=1, start=start, clock=lambda: now, sleep=sleep)
    with pytest.raises(EngineError):
        await engine.load(spec())
    assert delays == [0.25, 0.5, 1, 2, 4, 8]
    with pytest.raises(EngineError):
        await engine.load(spec())
    assert max(delays) == 30
    await engine.close()


async def test_an_engine_that_cannot_be_started_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    engine = EngineClient(lanes=1)
    with pytest.raises(EngineError, match="cannot be started: No such file"):
        await engine.load(spec())
    await engine.close()
