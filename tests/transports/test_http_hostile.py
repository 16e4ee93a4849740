"""What a careless or hostile client does to the network listener: bounded, answered, and nothing of it stays."""

import asyncio
import json
import socket
from typing import Any

import pytest

from edge_mcp.transports import bounded, streamable
from edge_mcp.transports.http import Limits, Options
from edge_mcp.transports.streamable import Timing
from tests.transports.wire import META, Site, event, initialize, initialized_request, listening, text

PROGRESS = {"progressToken": "p"}
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


async def well(site: Site) -> None:
    assert text((await site.modern("tools/call", name="echo", arguments={"text": "fine"})).json) == "fine"


async def tasks_settle(before: int) -> None:
    """Wait until no more tasks run than before."""
    async with asyncio.timeout(30):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)


async def test_a_header_that_dribbles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "IDLE_CONNECTION_S", 0.2)
    async with listening() as site:
        reader, writer = await asyncio.open_connection(*site.address)
        writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n")
        async with asyncio.timeout(30):
            while not reader.at_eof():
                try:
                    writer.write(b"X-A: b\r\n")
                    await writer.drain()
                    await asyncio.wait_for(reader.read(1), 0.05)
                except TimeoutError:
                    pass
                except ConnectionError:
                    break
        writer.close()
        await well(site)


async def test_a_connection_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "IDLE_CONNECTION_S", 0.1)
    async with listening() as site:
        assert await site.raw(b"") == b""


async def test_a_body_that_dribbles_ends() -> None:
    async with listening(Options(timing=Timing(body=0.2))) as site:
        request = initialized_request(PING).replace(b"Content-Length: %d" % len(PING), b"Content-Length: 1000")
        assert (await site.raw(request)).startswith(b"HTTP/1.1 408")
        chunked = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        chunked += b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        assert (await site.raw(chunked)).startswith(b"HTTP/1.1 408")
        await well(site)


async def test_many_large_bodies_at_once_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamable, "MAX_HELD", 1_400_000)
    async with listening(Options(limits=Limits(message=400_000))) as site:
        head = initialized_request(b"").replace(b"Content-Length: 0", b"Content-Length: 400000")
        held = [await asyncio.open_connection(*site.address) for _ in range(3)]
        for _, writer in held:
            writer.write(head + b" " * 390_000)
            await writer.drain()
        async with asyncio.timeout(30):
            firsts = [asyncio.ensure_future(reader.readline()) for reader, _ in held]
            done, waiting = await asyncio.wait(firsts, return_when=asyncio.FIRST_COMPLETED)
        assert [first.result().split()[1] for first in done] == [b"503"]
        assert len(waiting) == 2
        await well(site)  # small ones are let in all the while
        for _, writer in held:
            writer.close()
        await asyncio.wait(firsts)
        async with asyncio.timeout(30):
            while (await site.post(b" " * 399_000)).status == 503:
                pass
        await well(site)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"nonsense\r\n\r\n",
        b"GET /mcp HTTP/9.9\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nX\x00Y: z\r\n\r\n",
    ],
)
async def test_what_is_no_good_http_gets_400(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as site:
        try:
            said = await site.raw(request_)
        except ConnectionError:  # it was still sending when the answer was there
            said = b"HTTP/1.1 400"
        assert said.split()[1] == b"400"
        assert b"<html" not in said
        await well(site)
    assert not caplog.records


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on() -> None:
    async with listening() as site:
        reader, writer = await asyncio.open_connection(*site.address)
        body = json.dumps(initialize()).encode()
        request = initialized_request(body, "Expect: 100-continue\r\n")
        writer.write(request.removesuffix(body))
        async with asyncio.timeout(30):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with listening() as site:
        session = await site.initialize()
        field = f"Mcp-Session-Id: {session.headers['Mcp-Session-Id']}\r\n"
        requests = b"".join(initialized_request(PING.replace(b"1,", b"%d," % n), field) for n in range(200))
        said = await site.raw(requests + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert said.count(b"HTTP/1.1 200") == 201
        places = [said.index(b'"id":%d,' % n) if b'"id":%d,' % n in said else said.index(b'"id":%d}' % n) for n in range(200)]
        assert places == sorted(places)


async def test_a_client_that_leaves_half_way_leaves_nothing_behind() -> None:
    async with listening() as site:
        await well(site)
        before = len(asyncio.all_tasks())
        whole = initialized_request(PING)
        for end in range(0, len(whole), 7):
            _, writer = await asyncio.open_connection(*site.address)
            writer.write(whole[:end])
            await writer.drain()
            writer.transport.abort()
        await tasks_settle(before)
        assert not site.server._live


async def test_a_client_that_closes_its_half_still_gets_nothing_and_is_cancelled() -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold", "_meta": META}}).encode()
    fields = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: hold\r\n"
    async with listening() as site:
        _, writer = await asyncio.open_connection(*site.address)
        writer.write(initialized_request(body, fields))
        call = await site.catalogue.next_call()
        writer.write_eof()
        async with asyncio.timeout(30):
            await call.cancelled.wait()
        writer.close()


def slow_reader(site: Site, request: bytes) -> socket.socket:
    """A client that sends a request and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(site.address)
    connection.sendall(request)
    return connection


async def test_a_stream_that_is_not_read_stops_the_tool_and_not_the_server() -> None:
    params = {"name": "count", "arguments": {"to": 100_000, "size": 10_000}, "_meta": META | PROGRESS}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    fields = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: count\r\n"
    async with listening() as site:
        connection = slow_reader(site, initialized_request(body, fields))
        call = await site.catalogue.next_call()
        sent = -1
        wire: Any = call.context._wire
        written = wire._conversation.connection._reply
        async with asyncio.timeout(30):
            while sent != (sent := written._stream._payload_writer.output_size) or sent < 65536:
                await asyncio.sleep(0.1)
        assert sent < 8 * 1024 * 1024  # what fits into the buffers on the way, of a gigabyte
        await well(site)
        connection.close()
        async with asyncio.timeout(30):
            await call.ended.wait()


async def test_a_session_stream_that_is_not_read_keeps_no_more_than_its_share() -> None:
    async with listening() as site:
        session = await site.initialize()
        fields = f"Mcp-Session-Id: {session.headers['Mcp-Session-Id']}\r\n"
        params = {"name": "count", "arguments": {"to": 5000, "size": 10_000}, "_meta": PROGRESS}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        connection = slow_reader(site, initialized_request(body, fields))
        await site.catalogue.next_call()
        assert (await session.ask("ping", 2)).status == 200  # other streams of the session go on
        connection.close()  # the call goes on too, and is kept as far as there is room
        async with asyncio.timeout(20):
            while (await session.ask("ping", 1)).status == 400:
                await asyncio.sleep(0.01)
        async with session.streaming("1-0") as nothing_yet:
            assert nothing_yet.status == 400  # initialize was answered as JSON: no stream of its own
        async with session.streaming("2-0") as resumed:
            first = await event(resumed)
            assert first is not None and int(first.id.partition("-")[2]) > 4000


async def test_many_of_each_leave_nothing_behind() -> None:
    async with listening(Options(limits=Limits(sessions=8))) as site:
        await well(site)
        await site.catalogue.next_call()
        before = len(asyncio.all_tasks())
        for round_ in range(30):
            session = await site.initialize()
            answers = [session.ask("tools/call", n, name="count", arguments={"to": 3}, _meta=PROGRESS) for n in range(4)]
            await asyncio.gather(*answers)
            left = asyncio.create_task(session.ask("tools/call", 9, name="hold", arguments={}))
            calls = [await site.catalogue.next_call() for _ in range(5)]
            call = next(call for call in calls if not call.ended.is_set())
            left.cancel()
            async with site.http.delete(site.url, headers=session.headers) as response:
                assert response.status == 200, round_
            async with asyncio.timeout(30):
                await call.cancelled.wait()
        assert (await site.post(initialize())).status == 200
        await tasks_settle(before + 4)
        assert len(site.server._live) == 1


async def test_an_expectation_that_cannot_be_met_is_refused() -> None:
    async with listening() as site:
        request = initialized_request(b"{}", "Expect: a-miracle\r\n")
        assert (await site.raw(request, until_end=False)).startswith(b"HTTP/1.1 417")


@pytest.mark.parametrize("offered", ["nonsense", ""])
async def test_a_subprotocol_that_is_none_writes_nothing_to_the_log(offered: str, caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as site:
        fields = f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: {offered}\r\n"
        request = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n"
        await site.raw(request.encode(), until_end=False)
    assert not caplog.records
