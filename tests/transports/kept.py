"""Two programs for tests that cut cables: a server that tells how it keeps its peers, and peers that answer pings.

python -m tests.transports.kept serve HOST FIGURES     FIGURES: those of keepalive.Policy, in JSON
python -m tests.transports.kept peers URL COUNT
Both tell what they see on stdout, in lines of JSON.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from edge_mcp.transports.base import Connection, Kept
from edge_mcp.transports.http import HttpListener, Options
from edge_mcp.transports.keepalive import Policy
from edge_mcp.transports.wheel import Beat


def say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()


async def serve(host: str, figures: str) -> None:
    """Serve whoever comes; `bound` in seconds is what a peer is promised, with one more interval for what was sent to it."""

    async def served(connection: Connection) -> None:
        beat = cast(Beat, cast(Kept, connection).pulse)
        say("came", interval=beat.keepalive.interval_s)
        try:
            async for _ in connection:
                pass
        finally:
            promise = beat.keepalive.promise
            say("gone", bound=promise.interval_s + promise.grace_s)

    options = Options(keepalive=Policy(**json.loads(figures)))
    await HttpListener(host, 0, options, lambda url: say("listening", url=url.replace("http", "ws"))).listen(served)


async def peers(url: str, count: str) -> None:
    """Be `count` peers that say nothing."""

    async def peer() -> None:
        async with connect(url, subprotocols=[Subprotocol("mcp")], ping_interval=None, compression=None) as socket:
            say("connected")
            try:
                await socket.recv()
            except ConnectionClosed as error:
                say("closed", why=str(error))

    await asyncio.gather(*(peer() for _ in range(int(count))))


if __name__ == "__main__":
    asyncio.run({"serve": serve, "peers": peers}[sys.argv[1]](*sys.argv[2:]))
