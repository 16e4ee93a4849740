"""What a caller sees that a real server refuses: over stdio and WebSocket, in both eras, as a task, and for each reason."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.scheduling.gates import LONG_MS, WITHIN_S, Gate, answer, begin, gated, held, load, until, until_load
from tests.talk import LEGACY, MODERN, TASKS

HASTY = {"io.edge-mcp/deadlineMs": 5}
EACH = [(transport, version) for transport in ("stdio", "websocket") for version in (LEGACY, MODERN)]
BIG = 1024 * 1024 + 1


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with gated(tmp_path) as gate:
        yield gate


def why(result: dict[str, Any], *words: str) -> str:
    """The reason of a refusal, whose words say the same."""
    assert result["isError"] is True
    ((kind, text),) = [(block["type"], block["text"]) for block in result["content"]]
    assert kind == "text"
    retry = result["_meta"]["io.edge-mcp/retry"]
    assert set(retry) == {"retryAfterMs", "reason"}
    assert type(retry["retryAfterMs"]) is int
    assert retry["retryAfterMs"] >= 1
    assert re.fullmatch(r"the device is [^.]+\. Call again in \d+ ms", text), text
    assert text.endswith(f"in {retry['retryAfterMs']} ms")
    assert all(word in text for word in words), text
    assert "structuredContent" not in result
    return str(retry["reason"])


@pytest.mark.parametrize(("transport", "version"), EACH)
async def test_why_and_when_to_come_again(gate: Gate, transport: str, version: str) -> None:
    async with gate.talking(transport, version) as talk:
        first = await held(gate, talk)
        assert why(await talk.call("adder", HASTY, x=[1]), "busy", "deadline") == "deadline"

        async def is_refused_for(reason: str, *words: str) -> None:
            async def is_so() -> bool:
                result = await talk.call("adder", HASTY, x=[1])
                return result["_meta"]["io.edge-mcp/retry"]["reason"] == reason and why(result, *words) == reason

            await until(is_so, f"a call is refused for {reason}")

        gate.say("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 70000 kB\n")
        await is_refused_for("memory", "short of memory")
        gate.say("sys/class/thermal/thermal_zone1/temp", "84000\n")
        await is_refused_for("thermal", "hot")
        gate.open()
        assert await answer(first) == 1
        assert await answer(await begin(talk, 1)) == 2
        assert gate.runs() == [0, 1]


@pytest.mark.parametrize(("transport", "version"), EACH)
async def test_a_queue_that_is_full(gate: Gate, transport: str, version: str) -> None:
    async with AsyncExitStack() as stack:
        talk = await stack.enter_async_context(gate.talking(transport, version))
        first = await held(gate, talk)
        numbers = iter(range(1, 100_000))
        while (queued := (await load(talk))[0]) < 1024:
            other = await stack.enter_async_context(gate.talking())
            calls = [await begin(other, next(numbers)) for _ in range(min(128, 1024 - queued))]
            await asyncio.wait(calls, timeout=0.05)
        got = await talk.call("adder", {"io.edge-mcp/deadlineMs": LONG_MS}, x=[0.5])
        assert why(got, "too many calls wait", "1024 calls are before it") == "queue"
    assert not first.done()


@pytest.mark.parametrize("transport", ["stdio", "websocket"])
async def test_a_task_is_refused_as_a_call_is(gate: Gate, transport: str) -> None:
    async with gate.talking(transport, MODERN, TASKS) as talk:
        await held(gate, talk)
        created = await talk.call("other", HASTY, x=[0] * BIG)
        assert created["resultType"] == "task"

        async def is_over() -> bool:
            return bool((await talk.ask("tasks/get", taskId=created["taskId"]))["status"] != "working")

        await until(is_over, "the task is over")
        state = await talk.ask("tasks/get", taskId=created["taskId"])
        assert state["status"] == "completed"
        assert why(state["result"], "busy") == "deadline"


@pytest.mark.parametrize(("transport", "version"), EACH)
async def test_absurd_deadlines_are_no_calls(gate: Gate, transport: str, version: str) -> None:
    async with gate.talking(transport, version) as talk:
        absurd: Any
        for absurd in (0, -1, -0.0, 1e308, 86_400_001, "5", "soon", True, [], {}):
            error = await talk.fail("tools/call", {"io.edge-mcp/deadlineMs": absurd}, name="adder", arguments={"x": [1]})
            assert error["code"] == -32602
            assert "deadlineMs" in error["message"]
        await talk.connection.send(
            b'{"jsonrpc":"2.0","id":900,"method":"ping","params":{"_meta":{"io.edge-mcp/deadlineMs":NaN}}}'
        )
        assert (await talk.hears(lambda one: one.get("error", {}).get("code") == -32700))["error"]
        assert await answer(await begin(talk, 1, {"io.edge-mcp/deadlineMs": None})) == 2
        assert gate.runs() == [1]


async def test_the_manifests_deadline_holds_for_who_names_none(gate: Gate) -> None:
    async with gate.talking() as talk:
        await held(gate, talk)
        tasks = [await begin(talk, number, {}) for number in (1, 2)]
        await until_load(talk, 2, 1)
        refused = [await talk.call("other", x=[number]) for number in (3, 4)]
        assert [why(result) for result in refused] == ["deadline", "deadline"]
        patient = await begin(talk, 5, tool="other")
        await until_load(talk, 3, 1)
        gate.open()
        assert [await answer(one) for one in (*tasks, patient)] == [2, 3, 7]


async def test_a_deadline_that_passes_while_the_call_waits_is_told_and_the_call_is_not_run(gate: Gate) -> None:
    async with gate.talking() as talk:
        first = await held(gate, talk)
        hasty = await begin(talk, 1, {"io.edge-mcp/deadlineMs": 5000})
        await until_load(talk, 1, 1)
        end = asyncio.get_running_loop().time() + 5.0

        async def is_over() -> bool:
            return asyncio.get_running_loop().time() > end

        await until(is_over, "five seconds are over")
        gate.open()
        assert await answer(first) == 1
        assert why((await asyncio.wait_for(hasty, WITHIN_S))["result"]) == "deadline"
        assert gate.runs() == [0]
