"""Streamable HTTP of 2026-07-28, seen by a client that is not edge-mcp's."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge_mcp.changes import TOOLS
from edge_mcp.transports.http import Limits, Options
from edge_mcp.transports.streamable import Timing
from tests.transports.wire import BOTH, META, MODERN, Site, event, initialize, initialized_request, listening, text

QUICK = Timing(patience=0.05, legacy_patience=0.05, keep_alive=0.05)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with listening() as site:
        yield site


async def test_an_answer_alone_is_json(site: Site) -> None:
    answer = await site.modern("tools/call", name="echo", arguments={"text": "hello"})
    assert (answer.status, answer.kind) == (200, "application/json")
    assert text(answer.json) == "hello"
    assert "Mcp-Session-Id" not in answer.headers


@pytest.mark.parametrize("request_id", [0, "0", "ü", -1, 2**53])
async def test_an_id_comes_back_as_it_was(site: Site, request_id: int | str) -> None:
    assert (await site.modern("tools/list", request_id)).json["id"] == request_id


async def test_a_notification_makes_a_stream_of_the_answer(site: Site) -> None:
    meta = META | {"progressToken": "t"}
    answer = await site.modern("tools/call", name="count", arguments={"to": 3}, _meta=meta)
    assert (answer.status, answer.kind) == (200, "text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert [event.kind for event in answer.events] == ["message"] * 4
    assert [event.id for event in answer.events] == [""] * 4  # these streams cannot be resumed
    assert [event.json["params"]["progress"] for event in answer.events[:3]] == [1, 2, 3]
    assert text(answer.events[3].json) == "counted"


async def test_what_takes_long_becomes_a_stream_with_comments() -> None:
    async with listening(Options(timing=QUICK)) as site, site.posting("tools/call", name="hold", arguments={}) as response:
        assert response.headers["Content-Type"] == "text/event-stream"  # which arrived before any answer
        async with asyncio.timeout(30):
            assert [await response.content.readline() for _ in range(4)] == [b": ping\n", b"\n"] * 2
        (await site.catalogue.next_call()).go_on.set()
        answer = await event(response)
        assert answer is not None
        assert text(answer.json) == "held"


async def test_leaving_cancels_the_call(site: Site) -> None:
    async with asyncio.timeout(30):
        response = asyncio.create_task(site.modern("tools/call", name="hold", arguments={}))
        call = await site.catalogue.next_call()
        response.cancel()
        await call.cancelled.wait()
        assert (await site.modern("tools/list")).status == 200


async def test_leaving_a_stream_cancels_the_call(site: Site) -> None:
    meta = META | {"progressToken": 1}
    async with asyncio.timeout(30):
        async with site.posting("tools/call", name="count_then_hold", arguments={}, _meta=meta) as response:
            assert await event(response)
            response.close()
        await (await site.catalogue.next_call()).cancelled.wait()


async def test_two_requests_with_one_id_do_not_meet(site: Site) -> None:
    async with asyncio.timeout(30):
        held = asyncio.create_task(site.modern("tools/call", 7, name="hold", arguments={}))
        call = await site.catalogue.next_call()
        assert text((await site.modern("tools/call", 7, name="echo", arguments={"text": "other"})).json) == "other"
        call.go_on.set()
        assert text((await held).json) == "held"


async def test_a_subscription_streams_until_the_client_leaves(site: Site) -> None:
    wanted = {"toolsListChanged": True}
    async with site.posting("subscriptions/listen", "listen-1", notifications=wanted) as response:
        acknowledged = await event(response)
        assert acknowledged is not None
        assert acknowledged.json["method"] == "notifications/subscriptions/acknowledged"
        site.server.changes.tell(TOOLS)
        told = await event(response)
        assert told is not None
        assert told.json["method"] == "notifications/tools/list_changed"
        assert told.json["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "listen-1"
        response.close()
    async with asyncio.timeout(30):
        while site.server._live:
            await asyncio.sleep(0)


async def test_a_subscription_ends_in_good_order_when_the_server_stops(site: Site) -> None:
    async with site.posting("subscriptions/listen", notifications={"toolsListChanged": True}) as response:
        await event(response)
        await site.server.drain(1)
        ended = await event(response)
        assert ended is not None
        assert ended.json["result"]["resultType"] == "complete"
        assert await event(response) is None


async def test_a_call_that_the_stopping_server_does_not_finish_gets_503(site: Site) -> None:
    held = asyncio.create_task(site.modern("tools/call", name="hold", arguments={}))
    await site.catalogue.next_call()
    async with asyncio.timeout(30):
        await site.server.drain(0.01)
        assert (await held).status == 503


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        ("initialize", 404, -32601),
        ("ping", 404, -32601),
        ("logging/setLevel", 404, -32601),
        ("resources/subscribe", 404, -32601),
        ("no/such", 404, -32601),
        ("tools/call", 400, -32602),
    ],
)
async def test_errors_have_their_status(site: Site, method: str, status: int, code: int) -> None:
    params: dict[str, Any] = initialize()["params"] if method == "initialize" else {}
    if method == "tools/call":
        params = {"name": "no such tool"}
    answer = await site.modern(method, "x", **params)
    assert (answer.status, answer.code, answer.json["id"]) == (status, code, "x")


async def test_a_tool_that_fails_is_a_result(site: Site) -> None:
    answer = await site.modern("tools/call", name="fail", arguments={})
    assert answer.status == 200
    assert answer.json["result"]["isError"] is True


async def test_the_ladder_answers_over_http(site: Site) -> None:
    body = {"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {"_meta": META}}
    spoken = {"MCP-Protocol-Version": MODERN}
    assert (await site.post(body, spoken)).code == -32020  # Mcp-Method is missing
    assert (await site.post(body)).code == -32020
    assert (await site.post(b"{", spoken)).code == -32700
    assert (await site.post([body], spoken)).code == -32600
    later = {"_meta": META | {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}}
    answer = await site.post(body | {"params": later}, {"MCP-Protocol-Version": "2027-01-01", "Mcp-Method": "tools/list"})
    assert (answer.status, answer.code) == (400, -32022)
    assert answer.json["error"]["data"] == {"supported": [MODERN], "requested": "2027-01-01"}
    accepted = await site.post({"jsonrpc": "2.0", "method": "notifications/x"}, spoken)
    assert (accepted.status, accepted.body) == (202, b"")


async def test_a_routing_header_that_comes_twice_is_refused(site: Site) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":%s}}' % str(META).replace("'", '"').encode()
    fields = f"MCP-Protocol-Version: {MODERN}\r\nMcp-Method: tools/list\r\nmcp-method: tools/list\r\nConnection: close\r\n"
    said = await site.raw(initialized_request(body, fields))
    assert said.startswith(b"HTTP/1.1 400")
    assert b"-32020" in said


@pytest.mark.parametrize(
    ("arguments", "headers", "refused"),
    [
        ({"region": "north"}, {"Mcp-Param-Region": "north"}, False),
        ({"region": "north"}, {"mcp-param-region": " north "}, False),
        ({"region": "Nørd"}, {"Mcp-Param-Region": f"=?base64?{base64.b64encode('Nørd'.encode()).decode()}?="}, False),
        ({"region": "north"}, {}, True),
        ({"region": "north"}, {"Mcp-Param-Region": "North"}, True),
        ({}, {"Mcp-Param-Region": "north"}, True),
        ({}, {}, False),
        ({"region": None}, {}, False),
        ({"where": {"floor": 4}}, {"Mcp-Param-Floor": "4"}, False),
        ({"where": {"floor": 4}}, {"Mcp-Param-Floor": "4.0"}, False),
        ({"where": {"floor": 4}}, {"Mcp-Param-Floor": "5"}, True),
        ({"quick": True}, {"Mcp-Param-Quick": "true"}, False),
        ({"quick": True}, {"Mcp-Param-Quick": "True"}, True),
    ],
)
async def test_arguments_in_headers_are_those_of_the_body(
    site: Site, arguments: dict[str, Any], headers: dict[str, str], refused: bool
) -> None:
    answer = await site.modern("tools/call", headers=headers, name="visit", arguments=arguments)
    assert (answer.status, answer.json.get("error", {}).get("code")) == ((400, -32020) if refused else (200, None))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_are_of_the_older_revisions(site: Site, method: str) -> None:
    headers = BOTH | {"MCP-Protocol-Version": MODERN, "Mcp-Session-Id": "x"}
    async with site.http.request(method, site.url, headers=headers) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "HEAD", "TRACE"])
async def test_other_methods_are_not_allowed(site: Site, method: str) -> None:
    async with site.http.request(method, site.url) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, POST, DELETE")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 400),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Accept": "application/json"}, 406),
        ({"Accept": "text/event-stream"}, 406),
        ({"Accept": "*/*"}, 200),
        ({"Accept": "application/*;q=0.5, text/*"}, 200),
        ({"Host": "evil.example.com"}, 421),
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "http://localhost:6274"}, 200),
        ({"Mcp-Session-Id": "of another era", "Last-Event-ID": "1-1"}, 200),
    ],
)
async def test_content_negotiation_and_dns_rebinding(site: Site, headers: dict[str, str], status: int) -> None:
    assert (await site.modern("tools/list", headers=headers)).status == status


async def test_a_message_beyond_the_limit_is_413_however_it_is_sent() -> None:
    async with listening(Options(limits=Limits(message=1000))) as site:
        assert (await site.post(b"x" * 1001)).status == 413

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 100

        fields = {**BOTH, "Content-Type": "application/json"}
        async with site.http.post(site.url, data=parts(), headers=fields) as response:
            assert response.status == 413
        assert (await site.modern("tools/list")).status == 200
