"""Streamable HTTP until 2025-11-25: sessions, and what a client of those revisions may rely on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from edge_mcp.changes import TOOLS
from edge_mcp.protocol.versions import LEGACY
from edge_mcp.transports.base import Frame
from edge_mcp.transports.http import Limits, Options
from edge_mcp.transports.session import HttpSession
from edge_mcp.transports.streamable import Timing
from tests.transports.wire import BOTH, Legacy, Site, event, initialize, listening, text

QUICK = Timing(patience=0.05, legacy_patience=0.05, keep_alive=0.05)
PROGRESS = {"progressToken": "p"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with listening() as site:
        yield site


@pytest.fixture
async def session(site: Site) -> Legacy:
    return await site.initialize()


@pytest.mark.parametrize("version", LEGACY)
async def test_initialize_opens_a_session(site: Site, version: str) -> None:
    answer = await site.post(initialize(version))
    assert answer.json["result"]["protocolVersion"] == version
    session_id = answer.headers["Mcp-Session-Id"]
    assert len(session_id) >= 32
    assert all(0x21 <= ord(char) <= 0x7E for char in session_id)
    session = await site.initialize(version)
    assert text((await session.ask("tools/call", name="echo", arguments={"text": "hello"})).json) == "hello"


async def test_an_initialize_that_is_refused_opens_none(site: Site) -> None:
    answer = await site.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})
    assert answer.code == -32602
    assert "Mcp-Session-Id" not in answer.headers
    assert not site.server._live


async def test_the_session_has_to_be_named(site: Site, session: Legacy) -> None:
    ask = {"jsonrpc": "2.0", "id": 5, "method": "tools/list"}
    missing = await site.post(ask)
    assert (missing.status, missing.code, missing.json["id"]) == (400, -32600, 5)
    assert (await site.post(ask, {"Mcp-Session-Id": "wrong"})).status == 404
    assert (await site.post(ask, session.headers)).status == 200


@pytest.mark.parametrize("version", ["1999-01-01", "nonsense", ""])
async def test_a_revision_that_is_none_is_refused(site: Site, session: Legacy, version: str) -> None:
    headers = session.headers | {"MCP-Protocol-Version": version}
    assert (await site.post({"jsonrpc": "2.0", "id": 5, "method": "tools/list"}, headers)).status == 400
    async with site.http.get(site.url, headers=headers | {"Accept": "text/event-stream"}) as response:
        assert response.status == 400


async def test_a_deleted_session_is_gone(site: Site, session: Legacy) -> None:
    held = asyncio.create_task(session.ask("tools/call", name="hold", arguments={}))
    call = await site.catalogue.next_call()
    async with site.http.delete(site.url, headers=session.headers) as response:
        assert response.status == 200
    async with asyncio.timeout(30):
        await call.cancelled.wait()
        await held
    assert (await session.ask("tools/list")).status == 404
    async with site.http.delete(site.url, headers=session.headers) as response:
        assert response.status == 404


async def test_what_needs_no_answer_is_accepted(session: Legacy) -> None:
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "id": 99, "result": {}},
        {"jsonrpc": "2.0", "id": 99, "error": {"code": 1, "message": "no"}},
    ):
        answer = await session.post(message)
        assert (answer.status, answer.body) == (202, b"")


async def test_a_question_goes_out_on_its_calls_stream_and_the_answer_comes_by_post(site: Site) -> None:
    session = await site.initialize(elicitation={})
    async with session.asking("tools/call", 8, name="ask", arguments={}) as response:
        question = await event(response)
        while question is not None and not question.data:
            question = await event(response)  # the priming event
        assert question is not None
        assert question.json["method"] == "elicitation/create"
        content = {"action": "accept", "content": {"name": "Ada"}}
        assert (await session.post({"jsonrpc": "2.0", "id": question.json["id"], "result": content})).status == 202
        answer = await event(response)
        assert answer is not None
        assert (answer.json["id"], text(answer.json)) == (8, "Ada")
        assert await event(response) is None


async def test_several_posts_at_once_each_get_their_own(site: Site, session: Legacy) -> None:
    asked = [session.ask("tools/call", n, name="count", arguments={"to": n}, _meta=PROGRESS) for n in range(1, 9)]
    for n, answer in enumerate(await asyncio.gather(*asked), 1):
        frames = [event.json for event in answer.events if event.data]
        assert [frame["params"]["progress"] for frame in frames[:-1]] == list(range(1, n + 1))
        assert frames[-1]["id"] == n


async def test_an_id_that_is_in_use_is_refused_and_the_first_call_goes_on(site: Site, session: Legacy) -> None:
    held = asyncio.create_task(session.ask("tools/call", 1, name="hold", arguments={}))
    call = await site.catalogue.next_call()
    again = await session.ask("tools/list", 1)
    assert (again.status, again.code) == (400, -32600)
    assert (await session.ask("tools/list", "1")).status == 200
    call.go_on.set()
    assert text((await held).json) == "held"


async def test_leaving_does_not_cancel(site: Site, session: Legacy) -> None:
    held = asyncio.create_task(session.ask("tools/call", 1, name="hold", arguments={}))
    call = await site.catalogue.next_call()
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert (await session.ask("ping", 2)).json == {"jsonrpc": "2.0", "id": 2, "result": {}}
    assert not call.cancelled.is_set()
    call.go_on.set()
    async with asyncio.timeout(30):
        while (await session.ask("ping", 1)).status == 400:  # until the id is free: nobody hears the answer
            pass


async def test_a_cancelled_call_ends_with_an_error_and_not_in_a_stream_that_clients_come_back_for(
    site: Site, session: Legacy
) -> None:
    held = asyncio.create_task(session.ask("tools/call", 4, name="hold", arguments={}))
    call = await site.catalogue.next_call()
    await session.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}})
    async with asyncio.timeout(30):
        await call.cancelled.wait()
        assert (await held).code == -32800
    assert (await session.ask("ping", 4)).status == 200


async def test_the_general_stream_has_what_belongs_to_no_request(site: Site, session: Legacy) -> None:
    async with session.streaming() as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        async with session.streaming() as second:
            assert second.status == 409
        site.server.changes.tell(TOOLS)
        told = await event(response)
        assert told is not None and told.id
        assert told.json["method"] == "notifications/tools/list_changed"
    async with asyncio.timeout(30):  # once it is gone, another may come
        while True:
            async with session.streaming() as again:
                if again.status == 200:
                    break


async def test_what_was_told_while_no_stream_was_open_comes_when_one_is(site: Site, session: Legacy) -> None:
    site.server.changes.tell(TOOLS)
    async with session.streaming() as response:
        told = await event(response)
        assert told is not None
        assert told.json["method"] == "notifications/tools/list_changed"


async def test_a_broken_stream_is_taken_up_again(site: Site, session: Legacy) -> None:
    async with session.asking("tools/call", 1, name="count_then_hold", arguments={}, _meta=PROGRESS) as response:
        primed = await event(response)
        assert primed is not None
        assert (primed.data, bool(primed.id)) == ("", True)
        first = await event(response)
        assert first is not None and first.json["params"]["progress"] == 1
        response.close()
    call = await site.catalogue.next_call()
    async with session.streaming(primed.id) as resumed:  # everything after the priming event, and then live
        again = await event(resumed)
        assert again == first
        call.go_on.set()
        second = await event(resumed)
        assert second is not None and second.json["params"]["progress"] == 2
        answer = await event(resumed)
        assert answer is not None and text(answer.json) == "held"
        assert await event(resumed) is None
    async with session.streaming(second.id) as resumed:  # after the end too
        assert await event(resumed) == answer
        assert await event(resumed) is None
    async with session.streaming(answer.id) as resumed:
        assert resumed.status == 200
        assert await event(resumed) is None


async def test_a_resumed_stream_has_only_its_own(site: Site, session: Legacy) -> None:
    ids = []
    for n in (1, 2):
        answer = await session.ask("tools/call", n, name="count", arguments={"to": 2}, _meta={"progressToken": n})
        ids.append(answer.events[0].id)
    assert len({event_id.partition("-")[0] for event_id in ids}) == 2
    async with session.streaming(ids[1]) as resumed:
        tokens = [(await event(resumed)) for _ in range(2)]
        assert [told.json["params"]["progressToken"] for told in tokens if told] == [2, 2]


async def test_nothing_is_lost_or_doubled_however_often_a_stream_breaks(site: Site, session: Legacy) -> None:
    seen: list[int] = []
    last = ""
    params = {"name": "count", "arguments": {"to": 600, "size": 2000}, "_meta": PROGRESS}
    async with asyncio.timeout(20):
        while len(seen) < 600:
            async with session.streaming(last) if last else session.asking("tools/call", 1, **params) as response:
                for _ in range(50):
                    told = await event(response)
                    if told is None:
                        break
                    last = told.id or last
                    if told.data and "params" in told.json:
                        seen.append(told.json["params"]["progress"])
                response.close()
    assert seen == list(range(1, 601))


async def test_a_stream_that_is_taken_up_twice_is_the_second_clients(site: Site, session: Legacy) -> None:
    async with session.asking("tools/call", 1, name="count_then_hold", arguments={}, _meta=PROGRESS) as response:
        primed = await event(response)
        assert primed is not None
        async with session.streaming(primed.id) as first, session.streaming(primed.id) as second:
            (await site.catalogue.next_call()).go_on.set()
            told = [await event(second) for _ in range(3)]
            assert [bool(frame) for frame in told] == [True] * 3
            with pytest.raises((aiohttp.ClientError, AssertionError)):
                while await event(first):  # it may have had some before it was cut off
                    pass
                raise AssertionError("or ended")


@pytest.mark.parametrize("last", ["nonsense", "9-1", "-", "1-x", "1", "-1--1", "1" * 1000, "²-1", "0"])
async def test_an_unknown_event_is_refused(session: Legacy, last: str) -> None:
    async with session.streaming(last) as response:
        assert response.status == 400


async def test_another_sessions_events_are_not_replayed(site: Site, session: Legacy) -> None:
    answer = await session.ask("tools/call", 1, name="count", arguments={"to": 2}, _meta=PROGRESS)
    other = await site.initialize()
    async with other.streaming(answer.events[0].id) as response:
        assert response.status == 400


async def test_a_server_may_hang_up_and_the_client_comes_back(site: Site, session: Legacy) -> None:
    answer = await session.ask("tools/call", 1, name="hang_up", arguments={})
    assert answer.events[-1].retry == "50"
    (await site.catalogue.next_call()).go_on.set()
    async with session.streaming(answer.events[-1].id) as resumed:
        told = await event(resumed)
        assert told is not None and text(told.json) == "after the break"


@pytest.mark.parametrize("version", LEGACY[:-1])
async def test_older_clients_get_no_priming_event_and_are_not_hung_up_on(site: Site, version: str) -> None:
    session = await site.initialize(version)
    answer = await session.ask("tools/call", 1, name="count", arguments={"to": 1}, _meta=PROGRESS)
    assert all(event.data for event in answer.events)
    held = asyncio.create_task(session.ask("tools/call", 2, name="hang_up", arguments={}))
    await site.catalogue.next_call()
    (await site.catalogue.next_call()).go_on.set()
    assert text((await held).json) == "after the break"


async def test_what_takes_long_becomes_a_stream_that_can_be_resumed() -> None:
    async with listening(Options(timing=QUICK)) as site:
        session = await site.initialize()
        async with session.asking("tools/call", 1, name="hold", arguments={}) as response:
            primed = await event(response)
            assert primed is not None and primed.id
            response.close()
        (await site.catalogue.next_call()).go_on.set()
        async with session.streaming(primed.id) as resumed:
            answer = await event(resumed)
            assert answer is not None and text(answer.json) == "held"


async def test_batches_are_of_one_revision(site: Site) -> None:
    session = await site.initialize("2025-03-26")
    batch: list[Any] = [
        session.body("tools/call", 1, {"name": "echo", "arguments": {"text": "a"}}),
        {"jsonrpc": "2.0", "method": "notifications/x"},
        session.body("ping", "p", {}),
        {"jsonrpc": "1.0", "id": 9},
    ]
    answer = await session.post(batch)
    assert {str(part["id"]): "result" in part for part in answer.json} == {"1": True, "p": True, "9": False}
    assert [part["id"] for part in (await session.post([session.body("ping", 3, {})])).json] == [3]
    assert (await session.post(batch[1:2])).status == 202
    assert (await session.post([])).status == 400
    assert (await session.post([session.body("ping", 3, {}), session.body("ping", 3, {})])).status == 400
    other = await site.initialize("2025-06-18")
    refused = await other.post(batch)
    assert (refused.status, refused.code) == (400, -32600)


async def test_a_batchs_notifications_and_its_joint_answer_share_a_stream(site: Site) -> None:
    session = await site.initialize("2025-03-26")
    calls = [
        session.body("tools/call", n, {"name": "count", "arguments": {"to": 1}, "_meta": {"progressToken": n}}) for n in (1, 2)
    ]
    frames = [event.json for event in (await session.post(calls)).events]
    assert sorted(frame["params"]["progressToken"] for frame in frames[:2]) == [1, 2]
    assert sorted(part["id"] for part in frames[2]) == [1, 2]


async def test_the_number_of_sessions_is_bounded() -> None:
    async with listening(Options(limits=Limits(sessions=2))) as site:
        first = await site.initialize()
        await site.initialize()
        answer = await site.post(initialize())
        assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
        async with site.http.delete(site.url, headers=first.headers):
            pass
        assert (await site.post(initialize())).status == 200


async def test_a_session_that_is_not_used_ends() -> None:
    async with listening(Options(limits=Limits(session_idle_s=0.0))) as site:
        session = await site.initialize()
        async with asyncio.timeout(30):
            while site.server._live:
                await asyncio.sleep(0.05)
        assert (await session.ask("tools/list")).status == 404


@pytest.mark.parametrize(("header", "batches"), [(None, True), ("2025-03-26", True), ("2025-06-18", False)])
async def test_without_sessions_each_request_stands_for_itself(header: str | None, batches: bool) -> None:
    headers = {"MCP-Protocol-Version": header} if header else {}
    async with listening(stateless=True) as site:
        opened = await site.post(initialize())
        assert opened.json["result"]["protocolVersion"] == "2025-11-25"
        assert "Mcp-Session-Id" not in opened.headers
        ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}}
        assert text((await site.post(ask, headers)).json) == "x"
        assert (await site.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)).status == 202
        assert (await site.post([ask], headers)).status == (200 if batches else 400)
        counting = {"name": "count", "arguments": {"to": 2}, "_meta": PROGRESS}
        answer = await site.post(ask | {"params": counting}, headers)
        assert len(answer.events) == 3
        for method in ("GET", "DELETE"):
            async with site.http.request(method, site.url, headers=BOTH) as response:
                assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_every_session_ends_with_the_server() -> None:
    async with listening() as site:
        session = await site.initialize()
        async with session.streaming() as response:
            await site.server.drain(0.01)
            async with asyncio.timeout(30):
                assert await event(response) is None
        assert not site.server._live


async def test_a_session_that_does_not_read_keeps_no_id_and_its_end_is_that_of_all_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = asyncio.Event()
    reading.set()
    frames = HttpSession.__aiter__

    async def reluctant(session: HttpSession) -> AsyncIterator[Frame]:
        async for frame in frames(session):
            yield frame
            await reading.wait()

    monkeypatch.setattr(HttpSession, "__aiter__", reluctant)
    async with listening() as site:
        session = await site.initialize()
        held = asyncio.create_task(session.ask("tools/call", 1, name="hold", arguments={}))
        call = await site.catalogue.next_call()
        reading.clear()
        pings = [asyncio.create_task(session.ask("ping", n)) for n in range(1000, 1040)]
        await asyncio.sleep(0.2)
        leaver = asyncio.create_task(session.ask("ping", 777))
        await asyncio.sleep(0.1)
        leaver.cancel()
        await asyncio.sleep(0.1)
        again = asyncio.create_task(session.ask("ping", 777))
        await asyncio.sleep(0.1)
        assert not again.done()  # it waits: 777 is not refused
        async with site.http.delete(site.url, headers=session.headers) as response:
            assert response.status == 200
        async with asyncio.timeout(30):
            await asyncio.gather(held, *pings, again)
            await call.cancelled.wait()


async def test_the_answers_to_a_batch_come_although_one_call_was_cancelled(site: Site) -> None:
    session = await site.initialize("2025-03-26")
    names = {21: "hold", 22: "echo"}
    batch = [session.body("tools/call", n, {"name": name, "arguments": {}}) for n, name in names.items()]
    asked = asyncio.create_task(session.post(batch))
    for _ in names:
        await site.catalogue.next_call()
    await asyncio.sleep(0.05)  # the answer to 22 waits
    await session.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 21}})
    async with asyncio.timeout(30):
        answer = await asked
    assert [part["id"] for part in answer.json] == [22]
    assert (await session.ask("ping", 21)).status == 200


async def test_a_batch_that_cancels_all_it_asks_for_has_no_answer_and_ends() -> None:
    def call(n: int, name: str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": name, "arguments": {}}}

    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    async with listening(stateless=True) as site, asyncio.timeout(30):
        answer = await site.post([call(1, "hold"), cancel])
        assert (answer.status, answer.body) == (202, b"")
        answer = await site.post([call(1, "hold"), call(2, "echo"), cancel])
        assert [part["id"] for part in answer.json] == [2]
        assert [part["id"] for part in (await site.post([cancel, call(1, "echo")])).json] == [1]
