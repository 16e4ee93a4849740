"""The gateway's own loop, at the moment of its end."""

import asyncio
from pathlib import Path

import pytest

from edge_mcp.gateway.confirmed import Confirmed
from edge_mcp.gateway.fleet import Fleet
from edge_mcp.gateway.service import Gateway


@pytest.mark.parametrize("turns", range(6))
async def test_what_changes_at_the_moment_of_the_end_keeps_it_not_from_ending(tmp_path: Path, turns: int) -> None:
    gateway = Gateway(Fleet([]), Confirmed(tmp_path / "gateway.json"))
    following = asyncio.create_task(gateway._follow())
    await asyncio.sleep(0)
    gateway._wake.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    following.cancel()
    done, _ = await asyncio.wait([following], timeout=5)
    assert done
