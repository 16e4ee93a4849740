"""When a refused call is made again, and when a silent server is asked: without servers."""

import asyncio
import math
from collections.abc import Callable

import pytest

from edge_mcp.client.device import MAX_STOPPING, pause_s
from edge_mcp.client.pulse import Pulse
from edge_mcp.errors import BusyError, EdgeError, EngineError, ToolError
from edge_mcp.transports.keepalive import Policy

BUSY = BusyError("busy", "", 1000, "queue")
STOPPING = BusyError("stopping", "", 1000, "stopping")


@pytest.mark.parametrize(
    ("error", "refusals", "retries", "left_s", "expected"),
    [
        (BUSY, 0, 0, math.inf, None),
        (BUSY, 0, 1, math.inf, 1.25),
        (BUSY, 1, 1, math.inf, None),
        (BUSY, 0, 1, 1.3, 1.25),
        (BUSY, 0, 1, 1.2, None),
        (STOPPING, 0, 0, math.inf, 1.25),
        (STOPPING, 0, 0, 1.0, None),
        (STOPPING, MAX_STOPPING, 0, math.inf, None),
        (EngineError("died", "", 400), 0, 1, math.inf, 0.5),
        (EngineError("died"), 0, 1, math.inf, None),
        (ToolError("no"), 0, 9, math.inf, None),
    ],
)
def test_a_refused_call_is_made_again_when_the_server_says_and_there_is_time(
    error: EdgeError, refusals: int, retries: int, left_s: float, expected: float | None
) -> None:
    assert pause_s(error, refusals, retries, left_s, lambda: 1.0) == expected


class Peer:
    """A server as the kernel sees it: `says` is called at each look."""

    def __init__(self, heard: Callable[[], tuple[float, int] | None]) -> None:
        self.heard = heard
        self.pings = 0
        self.abandoned = asyncio.get_running_loop().create_future()

    async def ping(self, payload: bytes) -> None:
        self.pings += 1

    def abandon(self, why: str) -> None:
        self.abandoned.set_result(why)


SOON = Policy(base_s=0.05, least_s=0.0, near_s=60.0, patience_s=0.02, most_patience_s=0.02)


async def test_a_large_message_on_its_way_is_waited_for() -> None:
    since = asyncio.get_running_loop().time()
    looks = 0

    def heard() -> tuple[float, int]:
        nonlocal looks
        looks += 1
        return asyncio.get_running_loop().time() - since, min(looks, 20) * 10_000

    peer = Peer(heard)
    pulse = Pulse(peer, SOON, busy_s=0.05)
    pulse.expect(True, None)
    async with asyncio.timeout(30):
        assert "no answer to 2 pings" in await peer.abandoned
    assert looks >= 20
    assert peer.pings == 2
    pulse.stop()


async def test_where_the_kernel_tells_nothing_nobody_is_given_up() -> None:
    asked = asyncio.Event()

    def heard() -> None:
        asked.set()

    peer = Peer(heard)
    pulse = Pulse(peer, SOON, busy_s=0.05)
    async with asyncio.timeout(30):
        await asked.wait()
    assert (peer.pings, peer.abandoned.done()) == (0, False)
    pulse.stop()
