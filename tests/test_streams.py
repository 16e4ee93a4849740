"""Streams as peers see them: whose they are, in which order their pieces go, and what is said when one is lost."""

import asyncio
import json
import os
import signal
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp import Client
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from edge_mcp.transports.base import Peer
from tests.links import http, websocket, ws
from tests.processes import MODERN_META, Served, serving
from tests.sounds import RATE, raw, recorded

WORD = recorded("en-us_okay_nabu.flac")
HALF = int(1.7 * RATE)


def structured(result: Any) -> dict[str, Any]:
    assert not result.is_error, result.content
    found: dict[str, Any] = result.structured_content
    return found


async def halves(one: Client, other: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first half of the word from one, and the second from the other, under one name."""
    first = structured(await one.call_tool("detect_wake_word", {**raw(WORD[:HALF]), "stream": "a"}))
    return first, structured(await other.call_tool("detect_wake_word", {**raw(WORD[HALF:]), "stream": "a"}))


async def test_two_connections_without_a_principal_do_not_share() -> None:
    async with (
        serving("--listen", "127.0.0.1:0", "--lanes", "2") as served,
        Client(websocket(ws(served)), mode="auto") as one,
        Client(websocket(ws(served)), mode="auto") as two,
        Client(http(served), mode="legacy") as three,
    ):
        for other in (two, three):
            first, second = await halves(one, other)
            assert second["stream"]["new"]
            assert not second["detected"]
            structured(await one.call_tool("detect_wake_word", {"audio": "", "stream": "a", "end": True}))
        first, second = await halves(one, one)
        assert (first["stream"]["new"], second["stream"]["new"]) == (True, False)
        assert second["detected"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_stream_goes_on_over_http(mode: str) -> None:
    async with serving("--listen", "127.0.0.1:0") as served, Client(http(served), mode=mode) as one:
        first, second = await halves(one, one)
        assert (first["stream"]["new"], second["stream"]["new"]) == (True, False)
        assert second["detected"]


def test_an_owner_is_the_principal_or_else_the_connection() -> None:
    assert Peer("a", principal="x").owner == Peer("b", principal="x").owner
    assert Peer("a", principal="x").owner != Peer("a", principal="y").owner
    assert Peer("a").owner != Peer("a").owner
    assert Peer("a", passing=True).owner == Peer("a", passing=True).owner
    assert Peer("principal x").owner != Peer("a", principal="x").owner


async def ask(socket: ClientConnection, number: int, arguments: dict[str, Any]) -> None:
    params = {"name": "detect_wake_word", "arguments": arguments, "_meta": MODERN_META}
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}))


async def test_pieces_that_are_sent_at_once_go_in_order() -> None:
    pieces = np.array_split(WORD, 40)
    async with (
        serving("--listen", "127.0.0.1:0", "--lanes", "4") as served,
        connect(ws(served), subprotocols=[Subprotocol("mcp")], max_size=None) as socket,
    ):
        for number, piece in enumerate(pieces):
            await ask(socket, number, {**raw(piece), "stream": "a"})
        answers = {}
        for _ in pieces:
            message = json.loads(await asyncio.wait_for(socket.recv(), 60))
            answers[message["id"]] = message["result"]["structuredContent"]
    positions = [answers[number]["stream"]["position_s"] for number in range(len(pieces))]
    assert positions == pytest.approx(np.cumsum([len(piece) for piece in pieces]) / RATE, abs=1e-3)
    assert [one["phrase"] for number in sorted(answers) for one in answers[number]["detections"]] == ["Okay Nabu"]


async def gone(served: Served, pid: int) -> None:
    async with asyncio.timeout(30):
        while served.engine_pid() == pid:
            await asyncio.sleep(0.01)


async def test_an_engine_that_dies_takes_streams_with_it_and_the_answer_says_so() -> None:
    async with serving("--stdio") as served:
        first = await served.call("detect_speech", stream="a", **raw(WORD[:HALF]))
        assert first["structuredContent"]["stream"] == {"name": "a", "new": True, "position_s": 1.7, "ended": False}
        pid = served.engine_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await gone(served, pid)
        second = await served.call("detect_speech", stream="a", **raw(WORD[HALF:]))
        assert second["structuredContent"]["stream"]["new"] is True
        assert second["structuredContent"]["stream"]["position_s"] == pytest.approx((len(WORD) - HALF) / RATE, abs=1e-3)


async def test_a_listening_host_gets_what_the_schema_promises() -> None:
    async with serving("--stdio") as served:
        tools = {tool["name"]: tool for tool in (await served.ask("tools/list"))["result"]["tools"]}
        for name in ("detect_speech", "detect_wake_word"):
            validator = Draft202012Validator(tools[name]["outputSchema"])
            for more in ({}, {"scores": True}, {"stream": "a"}, {"stream": "a", "end": True}):
                arguments = {**raw(WORD[:HALF]), **more}
                Draft202012Validator(tools[name]["inputSchema"]).validate(arguments)
                validator.validate((await served.call(name, **arguments))["structuredContent"])
