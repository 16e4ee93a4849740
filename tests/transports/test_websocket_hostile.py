"""What a careless or hostile peer does to a WebSocket: bounded, told why, and others are served all the while."""

import asyncio
import os
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from edge_mcp.measurements import Links
from edge_mcp.transports import streamable, tls, websocket
from edge_mcp.transports.base import Connection
from edge_mcp.transports.deflate import FULL, NO_TAKEOVER, OFF, TEXT_ONLY
from edge_mcp.transports.frames import BINARY, CLOSE, MORE, PING, PONG, TEXT, closing, frame
from edge_mcp.transports.http import HttpListener, Limits, Options
from edge_mcp.transports.websocket import WebSocketConnection
from tests.transports.rawsocket import handshake, raw

LIMIT = 1_000_000
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


@asynccontextmanager
async def listening(
    serve: Callable[[Connection], object] | None = None, options: Options | None = None, message: int = LIMIT
) -> AsyncIterator[tuple[str, Links]]:
    """An echo, or what `serve` does; its URL, and what it counts."""

    async def echo(connection: Connection) -> None:
        async for received in connection:
            assert isinstance(received, bytes)
            await connection.send(received)

    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    links = Links()
    limits = replace(options.limits if options else Limits(), message=message)
    chosen = replace(options or Options(), limits=limits, links=links)
    listener = HttpListener("127.0.0.1", 0, chosen, ready.set_result)
    task = asyncio.create_task(listener.listen(serve or echo))  # type: ignore[arg-type]
    try:
        yield await asyncio.wait_for(ready, 30), links
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not links.sockets
    assert links.count() == 0


def client(opcode: int, payload: bytes) -> bytes:
    return frame(opcode, payload, masked=True)


def piece(opcode: int, payload: bytes) -> bytes:
    """A frame after which more is to come."""
    whole = bytearray(client(opcode, payload))
    whole[0] &= 0x7F
    return bytes(whole)


async def well(url: str) -> None:
    async with raw(url) as socket:
        assert await socket.echoes()


async def settled(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.01)


async def test_what_comes_with_the_handshake_is_not_lost() -> None:
    async with listening() as (url, _), raw(url, behind=client(TEXT, b"early")) as socket:
        assert await socket.event() == (TEXT, b"early")


async def test_a_message_in_a_hundred_thousand_pieces() -> None:
    async with listening() as (url, links), raw(url) as socket:
        await socket.send(piece(TEXT, b"a"), piece(MORE, b"b") * 99_998)
        assert await socket.reader.read(0) == b""
        await settled(lambda: links.held >= 99_999)
        assert links.held < 250_000
        await well(url)
        await socket.send(client(MORE, b"c"))
        assert await socket.event() == (TEXT, b"a" + b"b" * 99_998 + b"c")
        assert links.held < 1000


async def test_empty_pieces_end() -> None:
    async with listening() as (url, _), raw(url) as socket:
        await socket.send(piece(TEXT, b""), piece(MORE, b"") * 1000)
        assert (await socket.closed())[1:] == (1008, "a message of more than 64 empty pieces")


@pytest.mark.parametrize("way", ["announced", "in pieces"])
async def test_a_message_too_large_is_told_and_never_held(way: str) -> None:
    async with listening() as (url, links), raw(url) as socket:
        if way == "announced":
            await socket.send(b"\x81\xff" + (2**40).to_bytes(8) + bytes(4))
        else:
            await socket.send(piece(TEXT, b"a" * 600_000), piece(MORE, b"a" * 600_000)[:14])
        assert (await socket.closed())[1:] == (1009, f"message larger than {LIMIT} bytes (max_message_mb)")
        await settled(lambda: not links.sockets)


async def test_a_bomb_is_stopped_while_it_is_unpacked() -> None:
    deflater = zlib.compressobj(wbits=-12)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(64)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    async with listening() as (url, _), raw(url, DEFLATE) as socket:
        await socket.send(frame(TEXT, bomb[:-4], compressed=True, masked=True))
        assert (await socket.closed())[1] == 1009


async def test_a_ping_inside_a_message_of_just_the_limit_is_answered() -> None:
    async with listening(message=1000) as (url, _), raw(url) as socket:
        await socket.send(piece(TEXT, b"a" * 990), client(PING, b"p" * 20), client(MORE, b"b" * 10))
        assert await socket.event() == (PONG, b"p" * 20)
        assert await socket.event() == (TEXT, b"a" * 990 + b"b" * 10)


async def test_what_is_no_deflate_data_is_told() -> None:
    async with listening() as (url, _), raw(url, DEFLATE) as socket:
        await socket.send(frame(TEXT, b"\xff" * 50, compressed=True, masked=True))
        assert (await socket.closed())[1:] == (1007, "a compressed message cannot be read")


async def test_many_pings_end_and_their_answers_are_few() -> None:
    async with listening() as (url, _), raw(url) as socket:
        await socket.send(client(PING, b"x") * 10_000)
        pongs, code, reason = await socket.closed()
        assert len(pongs) <= 16
        assert (code, reason) == (1008, "too many pings")
        await well(url)


@pytest.mark.parametrize("opcode", [PING, TEXT])
async def test_what_comes_after_the_close_is_nothing(opcode: int) -> None:
    async with listening() as (url, _), raw(url) as socket:
        await socket.send(client(CLOSE, closing(1000, "")), client(opcode, b"x") * 1000)
        assert await socket.closed() == ([], 1000, "")
        await socket.end()


async def test_a_peer_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "STUCK_S", 0.3)
    async with listening() as (url, links), raw(url) as socket:
        cast(asyncio.Transport, socket.writer.transport).pause_reading()
        message = client(TEXT, b"y" * 500_000)

        async def flood() -> None:
            while True:
                await socket.send(message)

        flooding = asyncio.create_task(flood())
        most = 0
        async with asyncio.timeout(30):
            while links.sockets or not most:
                most = max(most, links.held)
                await asyncio.sleep(0.01)
        assert 0 < most < 4_000_000  # one message on its way out, one that waits, one that comes
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_a_slow_reader_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "STUCK_S", 0.2)

    async def serve(connection: Connection) -> None:
        await asyncio.gather(*(connection.send(b"%d" % n * 500_000) for n in range(10)))
        async for _ in connection:
            pass

    async with listening(serve) as (url, links), raw(url) as socket:
        got = 0
        async with asyncio.timeout(20):
            while got < 10 * 500_000:
                got += len(await socket.reader.read(40_000))
                await asyncio.sleep(0.002)
        assert len(links.sockets) == 1


async def test_who_sends_while_nothing_is_handled_is_not_read_on() -> None:
    go_on = asyncio.Event()

    async def serve(connection: Connection) -> None:
        await go_on.wait()
        async for frame_ in connection:
            assert isinstance(frame_, bytes)
            await connection.send(frame_)

    async with listening(serve) as (url, links), raw(url) as socket:
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await socket.send(client(TEXT, b"z" * 10_000))
                    sent += 1
        assert links.held < 300_000
        go_on.set()
        for _ in range(sent):
            assert await socket.event() == (TEXT, b"z" * 10_000)


async def test_all_peers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamable, "MAX_HELD", 4_000_000)
    async with listening() as (url, _), raw(url) as one, raw(url) as two, raw(url) as three:
        for socket in (one, two, three):
            await socket.send(piece(TEXT, b"a" * 950_000))
        async with asyncio.timeout(30):
            ends = [asyncio.ensure_future(socket.closed()) for socket in (one, two, three)]
            done, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert [end.result()[1] for end in done] == [1013]
        assert len(waiting) == 2
        await well(url)
        for end in waiting:
            end.cancel()


async def test_a_rate_is_told_with_1013() -> None:
    async with listening(options=Options(limits=Limits(requests_per_s=5))) as (url, _), raw(url) as socket:
        await socket.send(client(TEXT, b"x") * 50)
        events, code, reason = await socket.closed()
        assert len(events) <= 10
        assert code == 1013
        assert reason.startswith("too many messages. Try again in ")


async def test_a_server_that_stops_says_so() -> None:
    async def serve(connection: Connection) -> None:
        await connection.close("the server is stopping")

    async with listening(serve) as (url, _), raw(url) as socket:
        assert await socket.closed() == ([], 1012, "the server is stopping")
        await socket.end()


async def test_a_listener_that_ends_tells_its_peers() -> None:
    async with listening() as (url, _):
        manager = raw(url)
        socket = await manager.__aenter__()
        assert await socket.echoes()
        ended = asyncio.ensure_future(socket.closed())
    assert (await ended)[1:] == (1012, "the server is stopping")
    await manager.__aexit__(None, None, None)


async def test_connections_go_on_being_counted() -> None:
    async with listening(options=Options(limits=Limits(connections=2))) as (url, links):
        async with raw(url) as one, raw(url) as two:
            assert await one.echoes()
            assert await two.echoes()
            assert links.count() == len(links.sockets) == 2
            with pytest.raises(AssertionError, match="429"):
                await raw(url).__aenter__()
        await settled(lambda: links.count() == 0)
        await well(url)


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("secure", [False, True])
async def test_who_leaves_right_behind_the_handshake_is_not_counted_any_more(ahead: int, secure: bool, tmp_path: Path) -> None:
    identity = tls.of("", "", tmp_path) if secure else None
    trusting = ssl.create_default_context(cafile=identity.certificate) if identity else None
    async with listening(options=Options(tls=identity.context if identity else None)) as (url, links):
        port = int(url.split(":")[2].removesuffix("/mcp"))
        for wait in range(16):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * ahead
            writer.write(request + handshake("localhost").encode())
            for _ in range(wait):  # the end comes in every step of the server's
                await asyncio.sleep(0)
            writer.close()
            writer.transport.abort()
        await settled(lambda: links.count() == len(links.sockets) == 0)


@pytest.mark.parametrize("known", ["mcp", "mcp.msgpack"])
async def test_the_first_subprotocol_that_is_known_counts(known: str) -> None:
    encodings: list[str] = []

    async def serve(connection: Connection) -> None:
        encodings.append(connection.encoding)
        async for message in connection:
            assert isinstance(message, bytes)
            await connection.send(message)

    other = "mcp" if known == "mcp.msgpack" else "mcp.msgpack"
    opcode, foreign = (BINARY, TEXT) if known == "mcp.msgpack" else (TEXT, BINARY)
    async with listening(serve) as (url, _), raw(url, f"Sec-WebSocket-Protocol: chat, {known}, {other}\r\n") as socket:
        assert f"Sec-WebSocket-Protocol: {known}\r\n" in socket.head
        await socket.send(client(opcode, b"x"))
        assert await socket.event() == (opcode, b"x")
        await socket.send(client(foreign, b"x"))
        assert (await socket.closed())[1] == 1003
    assert encodings == [{"mcp": "json", "mcp.msgpack": "msgpack"}[known]]


@pytest.mark.parametrize(
    ("allowed", "text", "kept"), [(FULL, True, 1), (TEXT_ONLY, True, 1), (NO_TAKEOVER, True, 0), (OFF, False, 0)]
)
async def test_the_devices_load_decides_what_is_compressed(allowed: str, text: bool, kept: int) -> None:
    held: list[int] = []

    async def serve(connection: Connection) -> None:
        assert isinstance(connection, WebSocketConnection)
        async for message in connection:
            assert isinstance(message, bytes)
            await connection.send(message)
            held.append(len(connection._shared.compressors))
            connection.ping(b"idle")
            held.append(len(connection._shared.compressors))

    async with listening(serve, Options(allowed=lambda: allowed)) as (url, links), raw(url, DEFLATE) as socket:
        await socket.send(client(TEXT, b'{"text":"%s"}' % (b"again and " * 500)))
        first, size = await socket.reader.readexactly(2)
        assert (first == 0xC1) is text
        await settled(lambda: held == [kept, 0])
        assert (links.ratio < 0.2) is text
        assert size


async def test_compression_can_be_left_out() -> None:
    async with listening(options=Options(deflate=False)) as (url, _), raw(url, DEFLATE) as socket:
        assert "Extensions" not in socket.head


async def test_garbage_instead_of_frames() -> None:
    async with listening() as (url, _):
        for _ in range(20):
            async with raw(url) as socket:
                await socket.send(os.urandom(5000))
                assert (await socket.closed())[1] in (1002, 1003, 1007, 1009, 0)
        await well(url)
