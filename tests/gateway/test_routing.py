"""Calls over several real devices."""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_mcp.context import Context, InputRequired, Question
from edge_mcp.errors import AwayError, ProtocolError, UncertainError
from edge_mcp.gateway.routing import Router
from edge_mcp.protocol.jsonrpc import MISSING_CAPABILITY
from edge_mcp.transports.base import Peer
from tests.gateway.devices import Host, given, replicas, said, until, upstreams


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_call_is_answered_by_one_of_the_devices(tmp_path: Path, encoding: str) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        arguments = given(encoding, n=7)
        result = await Router().call(ups, "work", arguments, Host().context(), repeatable=True)
        assert said(result, arguments)["n"] == 7
        assert said(result, arguments)["by"] in "ab"


async def test_who_is_killed_in_mid_call_loses_no_call_that_may_be_made_twice(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        router, host = Router(), Host()

        async def one(n: int) -> None:
            arguments = given(n=n, ms=20)
            result = await router.call(ups, "work", arguments, host.context(), repeatable=True)
            assert said(result, arguments)["n"] == n

        calls = [asyncio.create_task(one(n)) for n in range(60)]
        await until(lambda: len(devices[0].calls) > 3 and len(devices[1].calls) > 3)
        await devices[0].kill()
        await until(lambda: sum(call.done() for call in calls) > 30)
        await devices[0].start()
        await until(lambda: ups[0].state == "up")
        await devices[1].kill()
        await asyncio.gather(*calls)


async def test_what_may_not_be_made_twice_is_not_when_it_was_sent(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        call = asyncio.create_task(Router().call(ups[:1], "once", given(n=1, ms=60_000), Host().context(), repeatable=False))
        await devices[0].called("once 1")
        await devices[0].kill()
        with pytest.raises(UncertainError, match="may have been made"):
            await call
        assert devices[1].calls == []


async def test_what_was_not_sent_goes_to_another_device(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        devices[0].send(signal.SIGSTOP)
        ups[1].rtt_s = 1.0  # so that the first one is asked first
        ups[0]._links["json"].drop("as if it had gone")
        arguments = given(n=1)
        result = await Router().call(ups, "once", arguments, Host().context(), repeatable=False)
        assert said(result, arguments)["by"] == "b"
        devices[0].send(signal.SIGCONT)


@pytest.mark.parametrize("reason", ["queue", "thermal", "deadline", "stopping", "engine"])
async def test_who_refuses_hands_the_call_to_another(tmp_path: Path, reason: str) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        router = Router()
        arguments = given(on="a", reason=reason, retry_after_ms=60_000)
        for _ in range(2):
            calls = [router.call(ups, "refuse", arguments, Host().context(), repeatable=True) for _ in range(6)]
            assert not any(result.isError for result in await asyncio.gather(*calls))
        assert 1 <= len(devices[0].calls) <= (9 if reason in ("queue", "deadline") else 5)


async def test_where_all_refuse_the_reason_goes_to_the_host_unless_it_can_wait(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        arguments = given(on="a b", retry_after_ms=60_000)
        result = await Router().call(ups, "refuse", arguments, Host().context(), repeatable=True)
        assert result.isError
        assert result.meta["io.edge-mcp/retry"] == {"retryAfterMs": 60_000, "reason": "queue"}
        assert len(devices[0].calls) == len(devices[1].calls) == 1
    async with replicas(tmp_path, "c", "d") as devices, upstreams(*devices) as ups:
        arguments = given(on="c d", retry_after_ms=50, times=1)
        result = await Router().call(ups, "refuse", arguments, Host().context(10_000), repeatable=False)
        assert not result.isError
        assert sum(len(device.calls) for device in devices) == 3


async def test_a_host_that_cancels_withdraws_the_call(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        call = asyncio.create_task(Router().call(ups, "forget", given(), Host().context(), repeatable=True))
        await until(lambda: devices[0].calls + devices[1].calls == ["begun"])
        call.cancel()
        await until(lambda: devices[0].calls + devices[1].calls == ["begun", "forgotten"])
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not ups[0].seen.flights
        assert not ups[1].seen.flights


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_progress_and_deadline_pass_through(tmp_path: Path, encoding: str) -> None:
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as ups:
        host, arguments = Host(), given(encoding)
        context = host.context(5000, {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}})
        context.background = True
        result = await Router().call(ups, "told", arguments, context, repeatable=True)
        told = said(result, arguments)
        assert 4000 < told["deadline_ms"] <= 5000
        assert told["background"] is True
        assert told["can"] == ["elicitation"]
        assert host.heard == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
        context.wants_progress = False
        await Router().call(ups, "told", arguments, context, repeatable=True)
        assert len(host.heard) == 3


async def test_a_stream_stays_at_its_device_and_belongs_to_one_host(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b", "c") as devices, upstreams(*devices) as ups:
        router = Router()

        async def listens(host: str, stream: str = "door") -> tuple[str, str]:
            arguments = given(n=1, stream=stream)
            context = Host().context()
            context.peer = Peer("somewhere", principal=host)
            answer = said(await router.call(ups, "listens", arguments, context, repeatable=True), arguments)
            return answer["by"], answer["stream"]

        here = {await listens("one") for _ in range(20)}
        assert len(here) == 1, "one device, one name of the stream there"
        [(home, name)] = here
        assert name != "door"
        assert (await listens("two"))[1] != name
        await devices["abc".index(home)].kill()
        await until(lambda: ups["abc".index(home)].state != "up")
        with pytest.raises(AwayError, match="begins anew"):
            await listens("one")
        assert (await listens("one"))[0] != home


async def test_what_a_device_asks_goes_to_the_host(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        host, arguments = Host(), given()
        result = await Router().call(ups, "asks", arguments, host.context(capabilities={"elicitation": {}}), repeatable=False)
        answer = said(result, arguments)
        assert answer["first"]["action"] == answer["second"]["action"] == "accept"
        by = "ab".index(answer["by"])
        assert [list(asked) for asked in host.asked] == [[f"{ups[by].id}/first"], [f"{ups[by].id}/second"]]
        (question,) = host.asked[0].values()
        assert question.params["message"] == f"{ups[by].name} asks: May I?"
        assert (devices[0].calls + devices[1].calls) == ["asked"]
        with pytest.raises(ProtocolError, match="elicitation") as caught:
            await Router().call(ups, "asks", arguments, host.context(), repeatable=False)
        assert caught.value.code == MISSING_CAPABILITY
        assert caught.value.data == {"requiredCapabilities": {"elicitation": {}}}


async def test_a_host_that_answers_in_another_request_is_asked_by_one_device(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b", "c") as devices, upstreams(*devices) as ups:
        router, arguments, answers = Router(), given(), dict[str, dict[str, Any]]()

        async def ask(questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
            if missing := {key: question for key, question in questions.items() if key not in answers}:
                raise InputRequired(missing)
            return {key: answers[key] for key in questions}

        for _ in range(2):
            context = Context(Peer("a host", principal="somebody"), {"elicitation": {}}, None, Host(), ask)
            with pytest.raises(InputRequired) as required:
                await router.call(ups, "asks", arguments, context, repeatable=False)
            answers |= {key: {"action": "accept", "content": {"yes": True}} for key in required.value.questions}
        result = await router.call(ups, "asks", arguments, context, repeatable=False)
        assert len(answers) == 2
        assert {key.split("/")[0] for key in answers} == {f"id-{said(result, arguments)['by']}"}
        assert not any(up.seen.flights for up in ups)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_what_is_long_goes_there_and_back_as_it_is(tmp_path: Path, encoding: str) -> None:
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as ups:
        arguments = given(encoding, data="ä\n" * 500_000)
        result = await Router().call(ups, "size", arguments, Host().context(), repeatable=True)
        assert isinstance(result.structuredContent, msgspec.Raw), "nobody decoded it"
        assert said(result, arguments)["data"] == "ä\n" * 500_000


async def test_failures_and_errors_are_the_devices_own(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        result = await Router().call(ups, "fail", given(), Host().context(), repeatable=True)
        assert result.isError
        wrong = await Router().call(ups, "work", given(n="x"), Host().context(), repeatable=True)
        assert wrong.isError
        assert "n" in wrong.content[0]["text"]


async def test_a_straggler_is_overtaken_and_its_device_is_none_the_worse(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(*devices) as ups:
        router, host = Router(), Host()
        for n in range(40):
            await router.call(ups, "work", given(n=n), host.context(), repeatable=True)
        devices[0].send(signal.SIGSTOP)
        for n in range(1000, 1004):  # some of them go to the one that says nothing
            arguments = given(n=n)
            assert said(await router.call(ups, "work", arguments, host.context(), repeatable=True), arguments)["by"] == "b"
        devices[0].send(signal.SIGCONT)
        assert ups[0].circuits.ready_in("work", router.clock()) == 0.0
        assert not ups[0].seen.flights


async def test_where_no_device_is_there_the_call_waits_for_one(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as ups:
        await devices[0].kill()
        await until(lambda: ups[0].state == "away")
        with pytest.raises(AwayError, match="a: "):
            await Router().call(ups, "work", given(n=1), Host().context(100), repeatable=True)
        call = asyncio.create_task(Router().call(ups, "work", given(n=1), Host().context(), repeatable=True))
        await devices[0].start()
        assert not (await call).isError
        with pytest.raises(AwayError, match="none was found"):
            await Router().call([], "work", given(n=1), Host().context(100), repeatable=True)
