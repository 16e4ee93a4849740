"""Calls of one stream wait for each other; no others do."""

import asyncio
import json

from edge_mcp.protocol.codec import Arguments
from edge_mcp.tools.turns import Turns


async def test_calls_of_a_stream_are_done_in_the_order_in_which_they_come() -> None:
    turns, done = Turns(), list[int]()

    async def call(number: int) -> None:
        async with turns.of("one", Arguments(json.dumps({"audio": "x" * 1000, "stream": "a"}).encode())):
            for _ in range(10 - number):
                await asyncio.sleep(0)
            done.append(number)

    await asyncio.gather(*(call(number) for number in range(8)))
    assert done == list(range(8))
    assert len(turns) == 0


async def test_other_streams_and_whole_sounds_do_not_wait() -> None:
    turns = Turns()
    async with turns.of("one", Arguments(b'{"stream": "a"}')):
        for owner, arguments in (
            ("two", b'{"stream": "a"}'),
            ("one", b'{"stream": "b"}'),
            ("one", b'{"audio": "x"}'),
            ("one", b""),
            ("one", b'{"stream": 5}'),
            ("one", b'{"stream": "\xff"}'),
            ("one", b"[" * 100_000),
        ):
            async with asyncio.timeout(30), turns.of(owner, Arguments(arguments)):
                pass
        assert len(turns) == 1


async def test_a_call_that_leaves_while_it_waits_holds_nobody_up() -> None:
    turns = Turns()

    async def call() -> None:
        async with turns.of("one", Arguments(b'{"stream": "a"}')):
            pass

    async with turns.of("one", Arguments(b'{"stream": "a"}')):
        waiting = asyncio.create_task(call())
        await asyncio.sleep(0)
        waiting.cancel()
    async with asyncio.timeout(30):
        await call()
