"""The programs of `keepalive`. They tell what they see on stdout, in lines of JSON, until SIGTERM.

keeping.py serve ours FIGURES HOST STALL_S SEED    edge-mcp's listener; FIGURES: those of keepalive.Policy that differ, in JSON
keeping.py serve fixed {} HOST STALL_S SEED        the library websockets: a ping every 20 s, which is waited for 20 s
keeping.py peers HOST PORT NAME COUNT SPREAD_S     COUNT peers, connecting within SPREAD_S, that answer pings and no more
"""

import asyncio
import base64
import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websockets_serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from edge_mcp.transports.base import Connection, Kept
from edge_mcp.transports.http import HttpListener, Limits, Options
from edge_mcp.transports.keepalive import Policy
from edge_mcp.transports.wheel import Beat

MANY = 10_000
PING, PONG = 0x9, 0xA


def say(event: str, **fields: Any) -> None:
    """One line, at once: the program may be stopped at any time."""
    os.write(1, json.dumps({"event": event, "at": time.monotonic(), **fields}).encode() + b"\n")


async def stall(most_s: float, seed: int) -> None:
    """Stand, and run, for up to `most_s` each in turn, at random."""
    chance = random.Random(seed)
    while most_s:
        await asyncio.sleep(chance.uniform(0, most_s))
        seconds = chance.uniform(0, most_s)
        begin = time.monotonic()
        time.sleep(seconds)  # noqa: ASYNC251 - what is measured
        say("stood", begin=begin, seconds=time.monotonic() - begin)


async def ours(figures: dict[str, Any], host: str) -> None:
    """Serve with edge-mcp's listener."""

    async def served(connection: Connection) -> None:
        name = ""
        try:
            async for frame in connection:
                name = cast(bytes, frame).decode()
                say("came", name=name)
        finally:
            promise = cast(Beat, cast(Kept, connection).pulse).keepalive.promise
            say("gone", name=name, bound=promise.interval_s + promise.grace_s)

    options = Options(keepalive=Policy(**figures), limits=Limits(MANY, MANY))
    await HttpListener(host, 0, options, lambda url: say("listening", port=int(url.split(":")[2].split("/")[0]))).listen(served)


async def fixed(_figures: dict[str, Any], host: str) -> None:
    """Serve with websockets as it is."""

    async def served(connection: ServerConnection) -> None:
        name = ""
        try:
            async for frame in connection:
                name = str(frame)
                say("came", name=name)
        except ConnectionClosed:
            pass  # told below, like every end
        finally:
            say("gone", name=name, bound=40.0)

    async with websockets_serve(served, host, 0, subprotocols=[Subprotocol("mcp")], compression=None) as server:
        say("listening", port=next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


class Peer(asyncio.Protocol):
    """A WebSocket client in as few lines as it takes (RFC 6455): small frames, each of which comes whole."""

    pings = 0

    def __init__(self, name: str, host: str) -> None:
        self._name = name
        self._host = host
        self._open = False
        self._in = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /mcp HTTP/1.1\r\nHost: {self._host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mcp\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._in += data
        if not self._open:
            head, end, self._in = self._in.partition(b"\r\n\r\n")
            if not end:
                self._in = head
                return
            if b" 101 " not in head:
                say("refused", answer=head.decode())
            self._open = True
            self._send(0x1, self._name.encode())
        while len(self._in) >= 2 and len(self._in) >= 2 + self._in[1]:
            opcode, size = self._in[0] & 0xF, self._in[1]
            payload, self._in = self._in[2 : 2 + size], self._in[2 + size :]
            if opcode == PING:
                Peer.pings += 1
                self._send(PONG, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        say("closed", name=self._name)

    def _send(self, opcode: int, payload: bytes) -> None:
        # The mask is all zeros: it protects proxies, of which there are none here.
        self._transport.write(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)


async def peers(host: str, port: str, name: str, count: str, spread_s: str) -> None:
    """Be some peers."""
    loop = asyncio.get_running_loop()

    async def connect(number: int) -> None:
        await asyncio.sleep(random.uniform(0, float(spread_s)))
        for _ in range(10):
            try:
                await loop.create_connection(lambda: Peer(f"{name}-{number}", host), host, int(port))
            except OSError:
                await asyncio.sleep(1)  # the server stands, and its queue of new connections is full
            else:
                return

    loop.add_signal_handler(signal.SIGUSR1, lambda: say("pings", count=Peer.pings))
    await asyncio.gather(*(connect(number) for number in range(int(count))))
    say("connected")
    await loop.create_future()


async def serve(kind: str, figures: str, host: str, stall_s: str, seed: str) -> None:
    """Serve until SIGTERM; from SIGUSR1 on stand now and then."""
    kinds: dict[str, Callable[[dict[str, Any], str], Awaitable[None]]] = {"ours": ours, "fixed": fixed}
    begun = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begun.set)

    async def stalls() -> None:
        await begun.wait()
        await stall(float(stall_s), int(seed))

    await asyncio.gather(kinds[kind](json.loads(figures), host), stalls())


if __name__ == "__main__":
    asyncio.run({"serve": serve, "peers": peers}[sys.argv[1]](*sys.argv[2:]))
