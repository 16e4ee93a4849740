"""A device that is away at each of its addresses for another reason fills no log."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from edge_mcp.client.link import Dial
from edge_mcp.client.resolve import Target
from edge_mcp.errors import ConfigError
from edge_mcp.gateway.upstream import MAX_TOLD, Upstream
from edge_mcp.transports.base import Connection

PLACES = [Target("a", "id-a", f"ws://10.0.0.{number}/mcp") for number in (1, 2)]


async def test_why_it_is_away_is_said_once_for_each_address(caplog: pytest.LogCaptureFixture) -> None:
    dialled = 0

    def dialling(target: object, encodings: Sequence[str]) -> Dial:
        async def dial() -> Connection:
            nonlocal dialled
            dialled += 1
            raise ConfigError(f"{up.target.url} cannot be reached")

        return dial

    up = Upstream(PLACES[0], 0, dialling)
    caplog.set_level(logging.INFO, "edge_mcp.gateway")
    up.start()
    while dialled < 10:
        up.announce(PLACES[:: 1 if dialled % 2 else -1], 0)  # now the one, now the other
        await asyncio.sleep(0.01)
    await up.close()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said)) == 2, said


def test_reasons_that_are_never_the_same_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        up = Upstream(PLACES[0])
        for number in range(100):
            up._is("away", f"reason {number}")
        assert up.why == "reason 99"
        assert len(caplog.records) == MAX_TOLD
        up._is("up", "")
        up._is("away", "reason 0")
        assert len(caplog.records) == MAX_TOLD + 2

    caplog.set_level(logging.INFO, "edge_mcp.gateway")
    asyncio.run(main())
