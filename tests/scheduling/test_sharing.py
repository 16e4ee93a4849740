"""Callers of a real server beside each other, told by what it runs in which order: shares, priorities, twins, and who is
hostile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.processes import MODERN_META
from tests.scheduling.gates import LONG_MS, Gate, answer, begin, gated, held, load, until, until_load
from tests.talk import LEGACY, MODERN, Talk

GROWTH_MB = 48
"""What a hostile client may cost the server, of which one connection's messages may be in flight."""


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with gated(tmp_path) as gate:
        yield gate


def call(number: float, identity: int = 0) -> str:
    meta = {**MODERN_META, "io.edge-mcp/deadlineMs": LONG_MS}
    params = {"name": "adder", "arguments": {"x": [number]}, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": identity or number, "method": "tools/call", "params": params})


async def until_empty(talk: Talk) -> None:
    """Wait until no call of anybody waits."""

    async def is_so() -> bool:
        return (await load(talk))[0] == 0

    await until(is_so, "no call waits")


@pytest.mark.parametrize("transport", ["stdio", "websocket"])
async def test_a_greedy_client_leaves_a_modest_one_its_share(gate: Gate, transport: str) -> None:
    async with gate.talking() as greedy, gate.talking(transport) as modest:
        first = await held(gate, greedy)
        theirs = [await begin(greedy, number) for number in range(1, 101)]
        await until_load(greedy, 100, 1)
        ours = [await begin(modest, -number) for number in range(1, 6)]
        await until_load(greedy, 105, 1)
        gate.open()
        assert [await answer(one) for one in ours] == [0, -1, -2, -3, -4]
        assert await answer(first) == 1
        assert [await answer(one) for one in theirs] == list(range(2, 102))
        order = gate.runs()
        assert [number for number in order if number < 0] == [-1, -2, -3, -4, -5]
        assert order.index(-5) <= 11
        assert len(order) == 106


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_background_calls_go_last_and_the_earliest_deadline_first(gate: Gate, version: str) -> None:
    async with gate.talking(version=version) as talk:
        await held(gate, talk)
        calls = []
        for number, (deadline, background) in enumerate(
            [(9e5, True), (5e5, True), (9e5, False), (7e5, False), (6e5, False)], 1
        ):
            meta = {"io.edge-mcp/deadlineMs": deadline, "io.edge-mcp/background": background}
            calls.append(await begin(talk, number, meta))
        await until_load(talk, 5, 1)
        gate.open()
        assert [await answer(one) for one in calls] == [2, 3, 4, 5, 6]
        assert gate.runs() == [0, 5, 4, 3, 2, 1]


async def test_twins_of_several_clients_are_computed_once(gate: Gate) -> None:
    async with gate.talking() as one, gate.talking() as two:
        await held(gate, one)
        metas = [{"io.edge-mcp/deadlineMs": ms, "io.edge-mcp/background": late} for ms, late in ((9e5, False), (8e5, True))]
        calls = [await begin(talk, 7, meta) for talk in (one, two) for meta in (*metas, *metas)]
        await until_load(one, 2, 1)
        await two.send({"method": "notifications/cancelled", "params": {"requestId": 0}})
        gate.open()
        assert [await answer(one) for one in calls[:4] + calls[5:]] == [8] * 7
        assert gate.runs() == [0, 7]
        assert not calls[4].done()


@pytest.mark.parametrize("transport", ["stdio", "websocket"])
async def test_a_cancelled_call_is_withdrawn_and_none_beside_it(gate: Gate, transport: str) -> None:
    async with gate.talking(transport) as talk:
        await held(gate, talk)
        calls = [await talk.begin("tools/call", name="adder", arguments={"x": [number]}) for number in (1, 2, 3)]
        await until_load(talk, 3, 1)
        await talk.send({"method": "notifications/cancelled", "params": {"requestId": calls[1][0]}})
        await until_load(talk, 2, 1)
        gate.open()
        assert [await answer(calls[0][1]), await answer(calls[2][1])] == [2, 4]
        assert gate.runs() == [0, 1, 3]
        assert not calls[1][1].done()


async def test_who_cancels_everything_harms_nobody(gate: Gate) -> None:
    async with gate.talking() as fickle, gate.talking() as other:
        await held(gate, other)
        ours = await begin(other, -1)
        for _ in range(10):
            calls = [
                (await fickle.begin("tools/call", {"io.edge-mcp/deadlineMs": LONG_MS}, name="adder", arguments={"x": [n]}))[0]
                for n in range(1, 101)
            ]
            for number in calls:
                await fickle.send({"method": "notifications/cancelled", "params": {"requestId": number}})
        await fickle.ask("tools/list")  # all of it has been read
        await until_load(other, 1, 1)
        gate.open()
        assert await answer(ours) == 0
        assert gate.runs() == [0, -1]


async def test_who_leaves_with_thousands_of_calls_in_flight_leaves_nothing(gate: Gate) -> None:
    async with gate.talking() as other:
        first = await held(gate, other)
        before = gate.served.rss_mb()
        socket = await connect(gate.served.url, subprotocols=[Subprotocol("mcp")])

        async def pour() -> None:
            with suppress(ConnectionClosed):
                for number in range(1, 10_001):
                    await socket.send(call(number))

        pouring = asyncio.create_task(pour())

        async def is_full() -> bool:
            return (await load(other))[0] >= 128

        await until(is_full, "the connection's calls wait")
        ours = await begin(other, -1)
        socket.transport.abort()
        await until_load(other, 1, 1)
        await pouring
        gate.open()
        assert (await answer(first), await answer(ours)) == (1, 0)
        assert gate.runs() == [0, -1]
        assert gate.served.peak_mb() < before + GROWTH_MB


async def test_a_hundred_thousand_calls_of_one_client_do_not_keep_another_from_its_own(gate: Gate) -> None:
    async with gate.talking() as other:
        assert await answer(await begin(other, -1)) == 0
        before = gate.served.rss_mb()
        socket = await connect(gate.served.url, subprotocols=[Subprotocol("mcp")])

        async def pour() -> None:
            with suppress(ConnectionClosed):
                for number in range(1, 100_001):
                    await socket.send(call(number))

        async def drink() -> int:
            seen = 0
            with suppress(ConnectionClosed):
                async for _ in socket:
                    seen += 1
                    if seen == 3000:  # and reads no more, while it goes on calling
                        break
            return seen

        pouring, drinking = asyncio.create_task(pour()), asyncio.create_task(drink())
        for number in range(2, 42):
            assert await answer(await begin(other, -number)) == 1 - number
        assert await drinking == 3000
        assert (await load(other))[0] <= 1024
        pouring.cancel()
        socket.transport.abort()
        await asyncio.gather(pouring, return_exceptions=True)
        await until_empty(other)
        assert await answer(await begin(other, -99)) == -98
        assert gate.served.peak_mb() < before + GROWTH_MB
