"""The bridge between a host and a device in this process, where the device can be cut off, restarted, and misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_mcp.api import Context, Server
from edge_mcp.client import bridge as bridge_module
from edge_mcp.client.bridge import PATIENCE_S, Bridge
from edge_mcp.client.bridge_device import Device
from edge_mcp.errors import ConfigError
from edge_mcp.transports.base import Connection
from edge_mcp.transports.memory import MemoryConnection, pair
from tests.talk import LEGACY, LIMIT_S, MODERN, Talk, talking

ERAS = pytest.mark.parametrize("version", [LEGACY, MODERN])


class World:
    """A device that a bridge leads to. `serve` is what is at its address at the moment, None while nobody is; time is ours."""

    def __init__(self, serve: Callable[[Connection], Any] | None) -> None:
        self.serve = serve
        self.now = 0.0
        self.said: list[str] = []
        self.dials = 0
        self.lines: list[MemoryConnection] = []
        self.refusal: ConfigError | None = None
        self._serving: list[asyncio.Task[None]] = []
        self.device = Device(self._dial, self.said.append, lambda: self.now, self._wait)
        self.bridge = Bridge(self.device)

    async def _dial(self) -> Connection:
        self.dials += 1
        if self.refusal is not None:
            raise self.refusal
        if self.serve is None:
            raise ConfigError("the device cannot be reached: Connection refused") from ConnectionRefusedError()
        theirs, ours = pair()
        self.lines.append(theirs)
        self._serving.append(asyncio.create_task(self.serve(theirs)))
        return ours

    async def _wait(self, seconds: float) -> None:
        """Nobody has to wait here; but the world goes on."""
        assert 0 <= seconds <= 5
        self.now += max(seconds, 0.1)
        for _ in range(20):
            await asyncio.sleep(0)

    async def cut(self) -> None:
        """The connection is gone."""
        await self.lines[-1].close()

    async def end(self) -> None:
        await self.device.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def world(serve: Callable[[Connection], Any] | None) -> AsyncIterator[World]:
    one = World(serve)
    try:
        yield one
    finally:
        await one.end()


class Tools:
    """A device with tools that say what they are."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.server = Server("device", models=False)
        self.server.tool(annotations={"readOnlyHint": True})(self.look)
        self.server.tool(annotations={"idempotentHint": True})(self.put)
        self.server.tool()(self.add)
        self.server.tool()(self.ask)
        self.server.resource("thing://one")(self.thing)

    async def look(self, context: Context) -> str:
        """Looks."""
        await self._began("look", context)
        return "seen"

    async def put(self, context: Context) -> str:
        """Puts."""
        await self._began("put", context)
        return "there"

    async def add(self, context: Context) -> str:
        """Adds."""
        await self._began("add", context)
        return "added"

    async def ask(self, context: Context) -> str:
        """Asks."""
        await self._began("ask", context)
        answer = await context.elicit("Who?", {"type": "object", "properties": {"name": {"type": "string"}}})
        return str(answer["content"]["name"])

    async def _began(self, name: str, context: Context) -> None:
        self.calls.append(name)
        await context.progress(1, 2, "under way")
        await self.gate.wait()

    def thing(self) -> str:
        """A thing."""
        return "a thing"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0)


def text(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


@ERAS
async def test_a_conversation_passes_through(version: str) -> None:
    tools = Tools()
    tools.gate.set()
    async with world(tools.server.connect) as one, talking(one.bridge.serve, version) as talk:
        assert [tool["name"] for tool in (await talk.ask("tools/list"))["tools"]] == ["look", "put", "add", "ask"]
        assert text(await talk.call("look", {"progressToken": "p"})) == "seen"
        assert (await talk.notified("notifications/progress"))["message"] == "under way"
        assert (await talk.ask("resources/read", uri="thing://one"))["contents"][0]["text"] == "a thing"
        assert (await talk.fail("resources/read", uri="no://thing"))["code"] in (-32602, -32002)
        assert one.dials == 1
        assert not one.said


async def test_questions_pass_through_and_are_answered() -> None:
    tools = Tools()
    tools.gate.set()
    async with world(tools.server.connect) as one, talking(one.bridge.serve, LEGACY, {"elicitation": {}}) as talk:
        talk.answers["elicitation/create"] = lambda params: {"action": "accept", "content": {"name": "Ada"}}
        assert text(await talk.call("ask")) == "Ada"


@ERAS
async def test_a_cancelled_call_is_cancelled_at_the_device(version: str) -> None:
    ended: list[str] = []
    server = Server("device", models=False)

    @server.tool()
    async def hang() -> None:
        """Hangs."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("hang")

    async with world(server.connect) as one, talking(one.bridge.serve, version) as talk:
        number, _ = await talk.begin("tools/call", name="hang", arguments={})
        await talk.ask("tools/list")
        await talk.send({"method": "notifications/cancelled", "params": {"requestId": number}})
        await until(lambda: ended == ["hang"])


@ERAS
async def test_a_device_that_was_away_is_a_delay(version: str) -> None:
    """Lists, reads and calls that do no harm are made again; those that may, get an error that says why."""
    before, after = Tools(), Tools()
    after.gate.set()
    async with world(before.server.connect) as one, talking(one.bridge.serve, version) as talk:
        calls = {name: (await talk.begin("tools/call", name=name, arguments={}))[1] for name in ("look", "add", "put")}
        await until(lambda: len(before.calls) == 3)
        one.serve = None
        await one.cut()
        await until(lambda: bool(one.said))
        late = (await talk.begin("tools/call", name="add", arguments={}))[1]  # it never left, and so does no harm
        await until(lambda: one.dials >= 3)
        one.serve = after.server.connect
        assert text((await calls["look"])["result"]) == "seen"
        assert text((await calls["put"])["result"]) == "there"
        assert text((await late)["result"]) == "added"
        error = (await calls["add"])["error"]
        assert "was lost while this was on its way" in error["message"]
        assert "may have been done" in error["message"]
        assert sorted(after.calls) == ["add", "look", "put"]
        assert one.said[0].endswith("Trying again")
        assert one.said[-1] == "the device answers again"
        assert text(await talk.call("look")) == "seen"


async def test_an_older_session_hears_of_what_it_had_subscribed_to() -> None:
    before, after = Tools(), Tools()
    after.server.tool("one_more")(after.thing)
    async with world(before.server.connect) as one, talking(one.bridge.serve, LEGACY) as talk:
        await talk.ask("tools/list")
        await talk.ask("resources/list")
        await talk.ask("resources/subscribe", uri="thing://one")
        one.serve = after.server.connect
        await one.cut()
        await talk.notified("notifications/tools/list_changed")
        assert (await talk.notified("notifications/resources/updated"))["uri"] == "thing://one"
        assert "notifications/resources/list_changed" not in talk.methods()
        talk.heard.clear()
        after.server.updated("thing://one")
        assert (await talk.notified("notifications/resources/updated"))["uri"] == "thing://one"
        assert len((await talk.ask("tools/list"))["tools"]) == 5


async def test_a_modern_subscription_goes_on() -> None:
    before, after = Tools(), Tools()
    after.server.tool("one_more")(after.thing)
    async with world(before.server.connect) as one, talking(one.bridge.serve, MODERN) as talk:
        await talk.ask("tools/list")
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["thing://one"]}
        number, listening = await talk.begin("subscriptions/listen", notifications=wanted)
        await talk.notified("notifications/subscriptions/acknowledged")
        one.serve = after.server.connect
        await one.cut()
        told = await talk.notified("notifications/tools/list_changed")
        assert told["_meta"] == {"io.modelcontextprotocol/subscriptionId": number}
        await talk.notified("notifications/resources/updated")
        talk.heard.clear()
        after.server.updated("thing://one")
        await talk.notified("notifications/resources/updated")
        assert "notifications/subscriptions/acknowledged" not in talk.methods()
        assert not listening.done()


@ERAS
async def test_nothing_is_told_when_nothing_has_changed(version: str) -> None:
    before, after = Tools(), Tools()
    after.gate.set()
    async with world(before.server.connect) as one, talking(one.bridge.serve, version) as talk:
        await talk.ask("tools/list")
        if version == MODERN:
            await talk.begin("subscriptions/listen", notifications={"toolsListChanged": True})
            await talk.notified("notifications/subscriptions/acknowledged")
        one.serve = after.server.connect
        await one.cut()
        assert text(await talk.call("look")) == "seen"
        await talk.ask("tools/list")
        assert "notifications/tools/list_changed" not in talk.methods()


async def test_who_waits_too_long_is_told_why_and_may_come_back() -> None:
    tools = Tools()
    tools.gate.set()
    async with world(None) as one:
        theirs, ours = pair()
        serving = asyncio.create_task(one.bridge.serve(theirs))
        talk = Talk(ours, MODERN, {})
        reading = asyncio.create_task(talk.read())
        error = await talk.fail("tools/list")
        assert error["message"] == "the device cannot be reached: the device cannot be reached: Connection refused"
        assert one.now >= PATIENCE_S
        at = one.dials
        assert "cannot be reached" in (await talk.fail("tools/list"))["message"]  # at once
        assert one.dials <= at + 1
        assert one.said == ["the device cannot be reached: Connection refused. Trying again"]
        one.serve = tools.server.connect
        await until(lambda: bool(one.lines))
        assert text(await talk.call("look")) == "seen"
        await ours.close()
        await asyncio.wait_for(asyncio.gather(serving, reading), LIMIT_S)


async def test_a_device_that_refuses_is_no_device_to_wait_for() -> None:
    async with world(None) as one:
        one.refusal = ConfigError("ws://pi/mcp wants another token", "Name the file that has it with --token-file")
        theirs, ours = pair()
        await ours.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode())
        with pytest.raises(ConfigError, match="wants another token"):
            await one.bridge.serve(theirs)
        assert one.dials == 1


async def test_a_device_that_refuses_later_is_waited_for() -> None:
    tools = Tools()
    tools.gate.set()
    async with world(tools.server.connect) as one, talking(one.bridge.serve, MODERN) as talk:
        await talk.call("look")
        one.refusal = ConfigError("ws://pi/mcp wants another token")
        await one.cut()
        await until(lambda: one.dials > 2)
        one.refusal = None
        assert text(await talk.call("look")) == "seen"


async def test_another_revision_after_a_restart_ends_the_conversation() -> None:
    tools = Tools()
    async with world(tools.server.connect) as one:
        theirs, ours = pair()
        serving = asyncio.create_task(one.bridge.serve(theirs))
        talk = Talk(ours, LEGACY, {})
        reading = asyncio.create_task(talk.read())
        hello = {"capabilities": {}, "clientInfo": {"name": "talk", "version": "1"}}
        await talk.ask("initialize", protocolVersion=LEGACY, **hello)

        async def old(connection: Connection) -> None:
            async for frame in connection:
                assert isinstance(frame, bytes)
                asked = json.loads(frame)
                result = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "x", "version": "0"}}
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode())

        one.serve = old
        await one.cut()
        with pytest.raises(ConfigError, match="now speaks MCP '2024-11-05'"):
            await asyncio.wait_for(serving, LIMIT_S)
        await ours.close()
        await reading


async def test_a_device_that_does_not_take_a_conversation_up_at_first_is_waited_for() -> None:
    tools = Tools()
    tools.gate.set()
    refused: list[bytes] = []

    async def full(connection: Connection) -> None:
        async for frame in connection:
            assert isinstance(frame, bytes)
            refused.append(frame)
            error = {"code": -32000, "message": "too many sessions"}
            await connection.send(json.dumps({"jsonrpc": "2.0", "id": json.loads(frame)["id"], "error": error}).encode())

    async with world(tools.server.connect) as one, talking(one.bridge.serve, LEGACY) as talk:
        await talk.call("look")
        one.serve = full
        await one.cut()
        await until(lambda: len(refused) > 1)
        assert "does not take the conversation up again" in one.said[-1]
        one.serve = tools.server.connect
        assert text(await talk.call("look")) == "seen"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"jsonrpc":"2.0","id":[],"result":1}',
        b'{"jsonrpc":"1.0"}',
        b"[" * 9999,
        b"x" * (33 * 1024 * 1024),
    ],
)
async def test_garbage_ends_the_connection_and_no_conversation(garbage: bytes) -> None:
    async def hostile(connection: Connection) -> None:
        async for _ in connection:
            await connection.send(garbage)

    tools = Tools()
    tools.gate.set()
    async with world(hostile) as one, talking(one.bridge.serve, MODERN) as talk:
        error = await talk.fail("tools/list")
        assert "was lost 3 times while this was on its way" in error["message"]
        one.serve = tools.server.connect
        assert text(await talk.call("look")) == "seen"


async def test_a_device_that_never_answers_holds_up_nobody_who_leaves() -> None:
    async def silent(connection: Connection) -> None:
        async for frame in connection:
            assert isinstance(frame, bytes)
            heard.append(json.loads(frame))

    heard: list[dict[str, Any]] = []
    async with world(silent) as one:
        async with talking(one.bridge.serve, MODERN) as talk:
            number, _ = await talk.begin("tools/call", name="look", arguments={})
            await until(lambda: len(heard) == 1)
        await until(lambda: len(heard) == 2)
        assert heard[1]["method"] == "notifications/cancelled"
        assert heard[1]["params"]["requestId"] == number


async def test_a_device_that_does_not_take_up_a_conversation_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(connection: Connection) -> None:
        async for _ in connection:
            heard.add(connection.peer.number)

    heard: set[int] = set()
    tools = Tools()
    tools.gate.set()
    async with world(tools.server.connect) as one, talking(one.bridge.serve, LEGACY) as talk:
        await talk.call("look")
        monkeypatch.setattr(bridge_module, "RESUME_S", 0.02)
        one.serve = silent
        await one.cut()
        await until(lambda: len(heard) >= 2)
        monkeypatch.undo()
        one.serve = tools.server.connect
        assert text(await talk.call("look")) == "seen"
        assert any("did not answer within" in line for line in one.said)


async def test_answers_on_their_way_are_delivered_when_a_host_closes_its_end() -> None:
    tools = Tools()
    async with world(tools.server.connect) as one:
        theirs, ours = pair()
        theirs.half_close = True
        serving = asyncio.create_task(one.bridge.serve(theirs))
        talk = Talk(ours, MODERN, {})
        reading = asyncio.create_task(talk.read())
        _, call = await talk.begin("tools/call", name="look", arguments={})
        number, listening = await talk.begin("subscriptions/listen", notifications={"toolsListChanged": True})
        await until(lambda: tools.calls == ["look"])
        await theirs._incoming.close()
        result = (await asyncio.wait_for(listening, LIMIT_S))["result"]
        assert result["_meta"]["io.modelcontextprotocol/subscriptionId"] == number
        assert not serving.done()
        tools.gate.set()
        assert text((await asyncio.wait_for(call, LIMIT_S))["result"]) == "seen"
        await asyncio.wait_for(serving, LIMIT_S)
        await ours.close()
        await reading


@ERAS
async def test_cuts_at_any_moment_lose_no_answer(version: str) -> None:
    """However often the device is cut off, each request is answered once."""
    tools = Tools()
    tools.gate.set()
    async with world(tools.server.connect) as one, talking(one.bridge.serve, version) as talk:
        await talk.ask("tools/list")
        for moment in range(60):
            futures = [(await talk.begin("tools/call", name=name, arguments={}))[1] for name in ("look", "add", "put")]
            for _ in range(moment):
                await asyncio.sleep(0)
            await one.cut()
            for future in futures:
                await asyncio.wait_for(future, LIMIT_S)
        ids = [message["id"] for message in talk.heard if "method" not in message]
        assert len(ids) == len(set(ids))


async def test_a_host_that_does_not_read_holds_back_the_device() -> None:
    """What is on its way is bounded: the device's own sends wait."""
    sent: list[int] = []

    async def flood(connection: Connection) -> None:
        for number in range(100_000):
            await connection.send(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":0}}')
            sent.append(number)

    async with world(flood) as one:
        theirs, ours = pair()
        serving = asyncio.create_task(one.bridge.serve(theirs))
        for _ in range(5000):
            await asyncio.sleep(0)
        assert 0 < len(sent) < 100
        await ours.close()
        await asyncio.wait_for(serving, LIMIT_S)
