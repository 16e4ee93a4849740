"""Calls that outlive their request: the extension io.modelcontextprotocol/tasks."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edge_mcp import Context, Server
from edge_mcp.changes import Change, Changes
from edge_mcp.context import Question
from edge_mcp.errors import EngineError, ProtocolError
from edge_mcp.tasks import MAX_TASKS, TTL_MS, Task, Tasks, TaskWire
from tests.talk import LEGACY, LIMIT_S, TASKS, Talk, talking

ABLE = {**TASKS, "elicitation": {}}
OK = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
YES = {"action": "accept", "content": {"ok": True}}


def server() -> Server:
    mine = Server("test", models=False)

    @mine.tool(task="optional")
    async def quick(context: Context) -> str:
        await context.progress(1, 2, "half way")
        return "done"

    @mine.tool(task="required")
    async def endless() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @mine.tool(task="optional")
    def broken() -> str:
        raise ValueError("no")

    @mine.tool(task="optional")
    def faulty() -> str:
        raise ProtocolError(-32000, "bad", {"why": 1})

    @mine.tool(task="optional")
    async def asks(context: Context) -> str:
        one, two = await asyncio.gather(context.elicit("One?", OK, key="one"), context.elicit("Two?", OK, key="two"))
        return f"{one['action']} {two['action']}"

    async def consent(context: Context) -> dict[str, Any]:
        return await context.elicit("May I?", OK, key="consent")

    @mine.tool(task="required", before=consent)
    async def careful(context: Context) -> str:
        return str((await consent(context))["content"])

    return mine


async def begin(talk: Talk, tool: str, **more: Any) -> dict[str, Any]:
    created = await talk.ask("tools/call", name=tool, arguments={}, **more)
    assert created["resultType"] == "task", created
    return created


async def test_a_call_becomes_a_task_and_its_result_is_kept() -> None:
    async with talking(server().connect, capabilities=ABLE) as talk:
        created = await begin(talk, "quick")
        assert (created["status"], created["ttlMs"]) == ("working", TTL_MS)
        assert "task" not in created
        done = await talk.state(created["taskId"], "completed")
        assert done["resultType"] == "complete"
        assert done["statusMessage"] == "half way"
        assert done["result"] == {"content": [{"type": "text", "text": "done"}], "isError": False}
        assert (await talk.ask("tasks/cancel", taskId=created["taskId"]))["resultType"] == "complete"
        assert (await talk.ask("tasks/get", taskId=created["taskId"]))["status"] == "completed"


async def test_a_tools_failure_is_a_result_and_a_protocol_fault_is_none() -> None:
    async with talking(server().connect, capabilities=ABLE) as talk:
        failed = await talk.state((await begin(talk, "broken"))["taskId"], "completed")
        assert failed["result"]["isError"]
        fault = await talk.state((await begin(talk, "faulty"))["taskId"], "failed")
        assert fault["error"] == {"code": -32000, "message": "bad", "data": {"why": 1}}
        assert "result" not in fault


async def test_a_cancelled_task_stays_cancelled() -> None:
    async with talking(server().connect, capabilities=ABLE) as talk:
        task_id = (await begin(talk, "endless"))["taskId"]
        assert (await talk.ask("tasks/get", taskId=task_id))["status"] == "working"
        for _ in range(2):
            await talk.ask("tasks/cancel", taskId=task_id)
            assert (await talk.ask("tasks/get", taskId=task_id))["status"] == "cancelled"


async def test_two_questions_at_once_are_answered_one_by_one() -> None:
    async with talking(server().connect, capabilities=ABLE) as talk:
        task_id = (await begin(talk, "asks"))["taskId"]
        for _ in range(3):
            parked = await talk.state(task_id, "input_required")
        assert set(parked["inputRequests"]) == {"one", "two"}
        for wrong in ({"one": {"action": "accept", "content": {}}}, {"three": YES}, {}):
            await talk.ask("tasks/update", taskId=task_id, inputResponses=wrong)
            assert set((await talk.ask("tasks/get", taskId=task_id))["inputRequests"]) == {"one", "two"}
        await talk.ask("tasks/update", taskId=task_id, inputResponses={"one": YES})
        left = await talk.ask("tasks/get", taskId=task_id)
        assert (left["status"], list(left["inputRequests"])) == ("input_required", ["two"])
        await talk.ask("tasks/update", taskId=task_id, inputResponses={"two": {"action": "decline"}, "one": YES})
        done = await talk.state(task_id, "completed")
        assert done["result"]["content"][0]["text"] == "accept decline"
        assert "inputRequests" not in done


async def test_what_must_be_known_before_is_asked_before_there_is_a_task() -> None:
    async with talking(server().connect, capabilities=ABLE) as talk:
        asked = await talk.call("careful")
        assert (asked["resultType"], "taskId" in asked) == ("input_required", False)
        created = await begin(talk, "careful", inputResponses={"consent": YES}, requestState=asked["requestState"])
        assert "requestState" not in created
        assert (await talk.state(created["taskId"], "completed"))["result"]["content"][0]["text"] == "{'ok': True}"


async def test_a_client_without_the_extension_sees_no_tasks() -> None:
    needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}
    async with talking(server().connect) as talk:
        assert (await talk.call("quick"))["resultType"] == "complete"
        error = await talk.fail("tools/call", name="endless", arguments={})
        assert (error["code"], error["data"]) == (-32021, needed)
        for method in ("get", "update", "cancel"):
            error = await talk.fail(f"tasks/{method}", taskId="unknown")
            assert (error["code"], error["data"]) == (-32021, needed)
    async with talking(server().connect, LEGACY, TASKS) as talk:
        assert "taskId" not in await talk.ask("tools/call", name="quick", arguments={}, task={"ttl": 1})


async def test_a_task_is_its_principals_alone() -> None:
    mine = server()
    async with (
        talking(mine.connect, capabilities=ABLE, principal="ada") as ada,
        talking(mine.connect, capabilities=ABLE, principal="ada") as again,
        talking(mine.connect, capabilities=ABLE, principal="bob") as bob,
    ):
        task_id = (await begin(ada, "endless"))["taskId"]
        assert (await again.ask("tasks/get", taskId=task_id))["status"] == "working"
        for method in ("get", "update", "cancel"):
            error = await bob.fail(f"tasks/{method}", taskId=task_id)
            assert (error["code"], error["message"]) == (-32602, "unknown task")
        for talk in (again, bob):
            await talk.begin("subscriptions/listen", notifications={"taskIds": [task_id]})
            await talk.notified("notifications/subscriptions/acknowledged")
        await ada.ask("tasks/cancel", taskId=task_id)
        heard = await again.notified("notifications/tasks")
        assert (heard["taskId"], heard["status"]) == (task_id, "cancelled")
        await bob.call("quick")
        assert bob.methods() == ["notifications/subscriptions/acknowledged"]
        assert await ada.whole("tasks/list") == {
            "id": 2,
            "jsonrpc": "2.0",
            "error": {"code": -32601, "message": "method not found: tasks/list"},
        }


async def test_a_task_outlives_its_connection() -> None:
    mine = server()
    async with talking(mine.connect, capabilities=ABLE, principal="ada") as talk:
        task_id = (await begin(talk, "endless"))["taskId"]
    async with talking(mine.connect, capabilities=ABLE, principal="ada") as talk:
        assert (await talk.ask("tasks/get", taskId=task_id))["status"] == "working"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def _endless(task: Task) -> Mapping[str, Any]:
    await asyncio.get_running_loop().create_future()
    return {}


async def _at_once(task: Task) -> Mapping[str, Any]:
    return {"content": []}


async def test_a_task_is_forgotten_and_stopped_when_its_time_is_over() -> None:
    clock, passed = Clock(), [0.0]
    tasks = Tasks(Changes(), clock, monotonic=lambda: passed[0])
    task = tasks.begin("", _endless)
    assert task.work is not None
    await asyncio.sleep(0)
    clock.now += timedelta(hours=3)  # somebody set the clock
    passed[0] += TTL_MS / 1000
    assert tasks.get(task.id, "") is task
    passed[0] += 0.001
    with pytest.raises(ProtocolError):
        tasks.get(task.id, "")
    await asyncio.wait([task.work], timeout=LIMIT_S)
    assert task.work.cancelled()


async def test_the_store_is_bounded_and_ended_tasks_make_room() -> None:
    tasks = Tasks(Changes(), most=3)
    ended = tasks.begin("", _at_once)
    running = [tasks.begin("", _endless) for _ in range(2)]
    assert ended.work is not None
    await ended.work
    running.append(tasks.begin("", _endless))
    with pytest.raises(ProtocolError):
        tasks.get(ended.id, "")
    with pytest.raises(EngineError, match="3 tasks are under way"):
        tasks.begin("", _at_once)
    assert all(tasks.get(task.id, "") is task for task in running)
    await tasks.close()
    assert MAX_TASKS == 64


async def test_an_unexpected_failure_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(task: Task) -> Mapping[str, Any]:
        raise RuntimeError("secret")

    changes, heard = Changes(), list[Change]()
    changes.listen(heard.append)
    task = Tasks(changes).begin("", crash)
    assert task.work is not None
    await task.work
    assert task.state()["error"] == {"code": -32603, "message": "internal error"}
    assert [change.task and change.task["status"] for change in heard] == ["failed"]
    assert "secret" in caplog.text


async def test_a_tasks_progress_is_its_message_and_wakes_nobody() -> None:
    heard = list[Change]()
    changes = Changes()
    changes.listen(heard.append)
    task = Tasks(changes).begin("", _endless)
    wire = TaskWire(task)
    for arguments, said in [((1.0, None, ""), "1"), ((1.0, 4.0, ""), "1 of 4"), ((2.0, 4.0, "half"), "half")]:
        await wire.progress(*arguments)
        assert task.state()["statusMessage"] == said
    await wire.log("info", "x", "y")
    await wire.hang_up(0)
    assert not heard
    task.cancel()
    task.say("too late")
    assert task.state()["statusMessage"] == "half"


async def test_one_timer_forgets_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, timers = [0.0], list[Any]()
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def count(delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        timers.append(callback)
        return call_later(delay, callback, *args)

    monkeypatch.setattr(loop, "call_later", count)
    tasks = Tasks(Changes(), most=3, monotonic=lambda: passed[0])
    for _ in range(20):
        task = tasks.begin("", _at_once)
        assert task.work is not None
        await task.work
    assert len(timers) == 1
    passed[0] += TTL_MS / 1000 + 1
    timers[0]()
    assert tasks.owned([task.id], "") == []
    assert len(timers) == 1
    last = tasks.begin("", _endless)
    assert len(timers) == 2
    await tasks.close()
    assert last.work is not None
    assert last.work.cancelled()


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), SystemExit(3), GeneratorExit()])
async def test_whatever_ends_the_work_ends_the_task(raised: BaseException) -> None:
    async def end(task: Task) -> Mapping[str, Any]:
        raise raised

    task = Tasks(Changes()).begin("", end)
    assert task.work is not None
    await asyncio.wait([task.work], timeout=LIMIT_S)
    assert task.state()["error"] == {"code": -32603, "message": "internal error"}


async def test_a_question_that_nobody_waits_for_is_withdrawn() -> None:
    timed_out, go = asyncio.Event(), asyncio.Event()
    question = {"ok": Question("elicitation/create", {"requestedSchema": OK})}

    async def impatient(task: Task) -> Mapping[str, Any]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task.ask({}, question), 0.01)
        timed_out.set()
        await go.wait()
        keep.append(asyncio.ensure_future(task.ask({}, question)))
        await asyncio.sleep(0)
        assert task.status == "input_required"
        return {"content": []}

    keep = list[Any]()
    task = Tasks(Changes()).begin("", impatient)
    assert task.work is not None
    await asyncio.wait_for(timed_out.wait(), LIMIT_S)
    assert task.status == "working"
    assert "inputRequests" not in task.state()
    go.set()
    await task.work
    assert task.status == "completed"
    assert "inputRequests" not in task.state()
    keep[0].cancel()
