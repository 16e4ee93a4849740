"""How keep-alive looks to a client: what it is told, what it may wish, what it may not do."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from edge_mcp.transports.http import Options
from edge_mcp.transports.keepalive import Pace, Policy
from tests.transports.wire import META, initialize, listening

KEY = "io.edge-mcp/keepalive"
NOMINAL = {"intervalMs": 45000, "graceMs": 27500, "state": "nominal"}
QUICK = Policy(base_s=0.3, least_s=0.05, patience_s=5.0, tick_s=0.02)


@asynccontextmanager
async def connected(options: Options, **headers: str) -> AsyncIterator[ClientConnection]:
    async with (
        listening(options) as site,
        connect(
            site.url.replace("http", "ws", 1),
            subprotocols=[Subprotocol("mcp")],
            additional_headers=headers,
            ping_interval=None,
            compression=None,
        ) as socket,
    ):
        yield socket


async def asked(socket: ClientConnection, method: str, params: dict[str, Any]) -> dict[str, Any]:
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    return await received(socket)


async def received(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        answer: dict[str, Any] = json.loads(await socket.recv())
        return answer


async def opened(socket: ClientConnection, era: str, said: Any = None) -> Any:
    """What the answer that opens a conversation says of keep-alive, where the client said `said` of it."""
    meta = {} if said is None else {KEY: said}
    if era == "modern":
        answer = await asked(socket, "server/discover", {"_meta": META | meta})
    else:
        answer = await asked(socket, "initialize", initialize()["params"] | {"_meta": meta})
    return answer["result"]["_meta"][KEY] if "result" in answer else answer["error"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_the_answer_that_opens_a_conversation_says_how_it_is_kept_alive(era: str) -> None:
    async with connected(Options()) as socket:
        assert await opened(socket, era) == NOMINAL
    async with connected(Options(), **{"X-Forwarded-For": "203.0.113.9"}) as socket:
        assert await opened(socket, era) == NOMINAL | {"intervalMs": 25000, "graceMs": 25500}


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_client_may_wish_for_another_interval(era: str) -> None:
    async with connected(Options()) as socket:
        assert await opened(socket, era, {"intervalMs": 120_000}) == NOMINAL | {"intervalMs": 120_000, "graceMs": 35000}
        if era == "modern":
            assert (await opened(socket, era, {"intervalMs": 86_400_000}))["intervalMs"] == 240_000
            assert (await opened(socket, era, {"intervalMs": 1}))["intervalMs"] == 10_000


@pytest.mark.parametrize("wish", [{"intervalMs": 0}, {"intervalMs": -5}, {"intervalMs": 1e99}, {"intervalMs": "soon"}, 7])
async def test_what_is_no_wish_is_refused(wish: Any) -> None:
    async with connected(Options()) as socket:
        assert (await opened(socket, "modern", wish))["code"] == -32602


async def test_over_http_nothing_is_said_of_it() -> None:
    async with listening() as site:
        answer = await site.modern("server/discover")
        assert KEY not in answer.json["result"]["_meta"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_who_knows_of_it_is_told_of_changes_and_nobody_else(era: str) -> None:
    pace = [Pace()]
    async with connected(Options(keepalive=QUICK, pace=lambda: pace[0])) as asking:
        assert (await opened(asking, era, {}))["intervalMs"] == 300
        pace[0] = Pace(4, "hot")
        told = await received(asking)
        assert (told["method"], "id" in told) == ("notifications/io.edge-mcp/keepalive", False)
        assert (told["params"]["intervalMs"], told["params"]["state"]) == (1200, "hot")
    pace[0] = Pace()
    async with connected(Options(keepalive=QUICK, pace=lambda: pace[0])) as silent:
        await opened(silent, era)
        pings = asyncio.Event()
        take = silent.protocol.recv_frame

        def see(frame: Frame) -> None:
            if frame.opcode is Opcode.PING:
                pings.set()
            take(frame)

        silent.protocol.recv_frame = see  # type: ignore[method-assign]
        for stretch in (4.0, 1.0):
            pace[0] = Pace(stretch)
            pings.clear()
            await asyncio.wait_for(pings.wait(), 30)
        assert not silent.protocol.events_received()
        assert (await asked(silent, "ping" if era == "legacy" else "tools/list", {"_meta": META} if era == "modern" else {}))[
            "id"
        ]


async def test_a_flood_of_pings_ends_a_connection() -> None:
    async with connected(Options()) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(30):
                for _ in range(17):
                    await socket.ping()
                await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "too many pings")


async def test_a_client_that_pings_now_and_then_is_answered() -> None:
    async with connected(Options()) as socket:
        for _ in range(16):
            async with asyncio.timeout(30):
                await (await socket.ping())


@pytest.mark.parametrize("reads", [True, False])
async def test_a_slow_reader_stays_as_long_as_it_reads(reads: bool) -> None:
    policy = Policy(base_s=0.2, least_s=0.05, patience_s=0.3, most_patience_s=0.3, tick_s=0.02)
    async with listening(Options(keepalive=policy)) as site:
        loop = asyncio.get_running_loop()
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            peer.setblocking(False)
            await loop.sock_connect(peer, site.address)
            params = {"_meta": META, "name": "big", "arguments": {"size": 12_000_000}}
            call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
            await loop.sock_sendall(peer, UPGRADE % site.address[1] + masked(call))
            begin, got = loop.time(), 0
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(30):
                    while got < 12_000_000 and site.server.connections >= (got > 0):
                        await asyncio.sleep(0.03)
                        got += len(await loop.sock_recv(peer, 120_000)) if reads or not got else 0
            assert (got >= 12_000_000) is reads
            assert loop.time() - begin > 2 * policy.patience_s


UPGRADE = (
    b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
)


def masked(payload: bytes) -> bytes:
    """A text frame of a client, with a mask of zeros."""
    assert 126 <= len(payload) < 65536
    return bytes((0x81, 0x80 | 126)) + len(payload).to_bytes(2) + bytes(4) + payload
