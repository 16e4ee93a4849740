"""HTTP+SSE of 2024-11-05."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from edge_mcp.transports.http import Limits, Options
from tests.transports.wire import Site, event, initialize, listening, text

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with listening(Options(old_sse=True, limits=Limits(sessions=2))) as site:
        yield site


async def test_answers_come_on_the_stream(site: Site) -> None:
    async with site.http.get(site.at("/sse"), headers=EVENTS) as stream:
        endpoint = await event(stream)
        assert endpoint is not None and endpoint.kind == "endpoint"
        messages = site.at(endpoint.data)
        async with site.http.post(messages, json=initialize("2024-11-05")) as accepted:
            assert accepted.status == 202
        opened = await event(stream)
        assert opened is not None and opened.kind == "message"
        assert opened.json["result"]["protocolVersion"] == "2024-11-05"
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "count", "arguments": {"to": 1}}}
        call["params"]["_meta"] = {"progressToken": 1}  # type: ignore[index]
        await site.http.post(messages, json=call)
        progress, answer = await event(stream), await event(stream)
        assert progress is not None and progress.json["method"] == "notifications/progress"
        assert answer is not None and text(answer.json) == "counted"
    async with asyncio.timeout(30):
        while site.server._live:
            await asyncio.sleep(0)
    async with site.http.post(messages, json=call) as gone:
        assert gone.status == 404


async def test_leaving_cancels_the_calls(site: Site) -> None:
    async with site.http.get(site.at("/sse"), headers=EVENTS) as stream:
        endpoint = await event(stream)
        assert endpoint is not None
        for message in (
            initialize("2024-11-05"),
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold", "arguments": {}}},
        ):
            await site.http.post(site.at(endpoint.data), json=message)
        call = await site.catalogue.next_call()
        stream.close()
    async with asyncio.timeout(30):
        await call.cancelled.wait()


async def test_the_number_of_streams_is_bounded(site: Site) -> None:
    async with AsyncExitStack() as open_:
        statuses = [(await open_.enter_async_context(site.http.get(site.at("/sse"), headers=EVENTS))).status for _ in range(3)]
    assert statuses == [200, 200, 503]


async def test_the_methods_and_the_access_are_checked(site: Site) -> None:
    async with site.http.post(site.at("/sse"), json={}) as wrong:
        assert (wrong.status, wrong.headers["Allow"]) == (405, "GET")
    async with site.http.get(site.at("/sse"), headers=EVENTS | {"Host": "evil.example.com"}) as wrong:
        assert wrong.status == 421


async def test_it_is_off_by_default() -> None:
    async with listening() as site, site.http.get(site.at("/sse"), headers=EVENTS) as response:
        assert response.status == 404
