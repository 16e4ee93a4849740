"""Many requests at once on one connection: the peer is always read on."""

import asyncio
import json

import pytest

from edge_mcp import Server, conversation
from edge_mcp.protocol.messages import Implementation
from edge_mcp.protocol.session import About, Answer, Cancelled, Request, Session
from tests.processes import MODERN_META, serving
from tests.talk import LEGACY, MODERN, talking


def api() -> Server:
    server = Server("test", models=False)

    @server.tool()
    async def hang() -> str:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    @server.tool()
    async def cancelled_inside() -> str:
        inner = asyncio.ensure_future(asyncio.get_running_loop().create_future())
        inner.cancel()
        await inner
        raise AssertionError("unreachable")

    @server.tool()
    async def quick() -> str:
        return "done"

    return server


@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_calls_that_hang_hold_up_no_cancellation_and_no_other_call(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_WAITING", 3)
    monkeypatch.setattr(conversation, "PAUSE_S", 0.05)
    async with talking(api().connect, version) as talk:
        hung = [(await talk.begin("tools/call", name="hang", arguments={}))[0] for _ in range(3)]
        error = await talk.fail("tools/call", name="quick", arguments={})
        assert "too many requests are in flight" in error["message"]
        await talk.send({"method": "notifications/cancelled", "params": {"requestId": hung[0]}})
        assert (await talk.call("quick"))["content"][0]["text"] == "done"


async def test_subscriptions_take_no_calls_place_and_end_with_the_hosts_input() -> None:
    async with serving("--stdio") as served:
        for number in range(200):
            listen = {"notifications": {"toolsListChanged": True}, "_meta": MODERN_META}
            body = {"jsonrpc": "2.0", "id": f"l{number}", "method": "subscriptions/listen", "params": listen}
            await served.write(json.dumps(body).encode() + b"\n")
            assert (await served.read())["method"] == "notifications/subscriptions/acknowledged"
        assert (await served.ask("tools/list"))["result"]["tools"]
        assert served.process.stdin is not None
        served.process.stdin.close()
        assert {(await served.read())["id"] for _ in range(200)} == {f"l{number}" for number in range(200)}
        assert await asyncio.wait_for(served.process.wait(), 30) == 0


async def test_a_tool_whose_own_work_was_cancelled_is_answered() -> None:
    async with talking(api().connect, LEGACY) as talk:
        answer = await talk.whole("tools/call", name="cancelled_inside", arguments={})
        assert "internal error" in json.dumps(answer)


def batch_session() -> Session:
    session = Session(About(Implementation("test", "1"), {"tools": {}}))
    hello = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    session.receive(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}).encode())
    return session


def test_a_batch_that_cancels_its_own_call_is_answered_once() -> None:
    parts = [
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    ]
    events = batch_session().receive(json.dumps(parts).encode())
    assert [type(event) for event in events] == [Request, Cancelled, Answer]
    assert [event.frame for event in events if isinstance(event, Cancelled)] == [None]


def test_initialize_is_no_part_of_a_batch() -> None:
    session = batch_session()
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    [event] = session.receive(json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}]).encode())
    assert isinstance(event, Answer)
    assert json.loads(event.frame)[0]["error"]["code"] == -32600
    assert session.version == "2025-03-26"
