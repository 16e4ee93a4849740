"""The client over a connection in memory: to edge-mcp's own server, and to servers of other eras and manners."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from edge_mcp.client import client as client_module
from edge_mcp.client.client import Client
from edge_mcp.context import Context
from edge_mcp.errors import ArgumentError, CallError, ConnectionClosed
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.messages import Implementation, ToolAnnotations, ToolDefinition, ToolResult
from edge_mcp.server import Server
from edge_mcp.tools.base import TaskUse, Tool
from edge_mcp.transports.base import Connection, Oversized
from edge_mcp.transports.memory import pair


class Echo:
    """Answers its arguments, after `go` where they say `wait`."""

    definition = ToolDefinition(
        name="echo",
        title="Echo",
        description="Answers its arguments.",
        inputSchema={"type": "object"},
        annotations=ToolAnnotations("Echo"),
    )

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    def task_use(self, arguments: Arguments) -> TaskUse:
        return "never"

    async def prepare(self, arguments: Arguments, context: Context) -> None: ...

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        decoded = arguments.decode(dict)
        await context.progress(1, 2, "half way")
        try:
            if "wait" in decoded:
                self.started.set()
                await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return ToolResult.failed("as you wish") if "fail" in decoded else ToolResult([], decoded)


class Catalogue:
    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    async def tools(self) -> Mapping[str, Tool]:
        return {"echo": self._tool}


@asynccontextmanager
async def serving(serve: Callable[[Connection], Awaitable[None]], limit: int = 1 << 20) -> AsyncIterator[Connection]:
    """The client's end of a connection on whose other end `serve` runs."""
    ours, theirs = pair(limit)  # the first end is the one with the limit

    async def run() -> None:
        await serve(theirs)

    task = asyncio.create_task(run())
    try:
        async with asyncio.timeout(30):
            yield ours
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def edge(tool: Echo | None = None) -> AsyncIterator[Client]:
    """A client of edge-mcp's own server with one tool."""
    server = Server(Implementation("test", "1"), Catalogue(tool or Echo()))
    async with serving(server.serve) as connection, Client(connection) as client:
        yield client


class Scripted:
    """A server that answers each method as it was told: with a body, with bytes as they are, or (None) by leaving."""

    def __init__(self, **handlers: Any) -> None:
        self.handlers = {name.replace("__", "/"): value for name, value in handlers.items()}
        self.seen: list[dict[str, Any]] = []

    async def serve(self, connection: Connection) -> None:
        async for frame in connection:
            assert not isinstance(frame, Oversized)
            message = json.loads(frame)
            self.seen.append(message)
            if "method" not in message or "id" not in message:
                continue
            answer = self.handlers.get(message["method"], {"error": {"code": -32601, "message": "method not found"}})
            if callable(answer):
                answer = answer(message["params"])
            if answer is None:
                return await connection.close()
            if isinstance(answer, bytes):
                await connection.send(answer)
            else:
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}).encode())
        return None

    def methods(self) -> list[str]:
        return [message.get("method", "answer") for message in self.seen]


INITIALIZED = {"result": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}}
DISCOVERED = {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete"}}


async def test_tools_are_listed_and_called_in_the_modern_era() -> None:
    async with edge() as client:
        assert client.version == "2026-07-28"
        assert [tool.name for tool in await client.list_tools()] == ["echo"]
        result = await client.call_tool("echo", {"a": [1, "ä"]})
    assert (result.structuredContent, result.isError) == ({"a": [1, "ä"]}, False)


async def test_a_resource_is_read() -> None:
    read = {"result": {"contents": [{"uri": "a://b", "text": "hello"}]}}
    none: dict[str, Any] = {"result": {"contents": []}}
    scripted = Scripted(server__discover=DISCOVERED, resources__read=lambda params: read if params["uri"] == "a://b" else none)
    async with serving(scripted.serve) as connection, Client(connection) as client:
        assert (await client.read("a://b")).text == "hello"
        with pytest.raises(CallError, match="c://d is empty"):
            await client.read("c://d")


async def test_a_failing_tool_is_a_result_and_not_an_exception() -> None:
    async with edge() as client:
        result = await client.call_tool("echo", {"fail": True})
    assert result.isError
    assert result.content[0]["text"] == "as you wish"


async def test_an_error_of_the_protocol_is_an_exception_with_its_code() -> None:
    async with edge() as client:
        with pytest.raises(CallError, match="unknown tool: 'nope'") as caught:
            await client.call_tool("nope", {})
    assert caught.value.code == -32602


async def test_many_calls_are_in_flight_at_once_and_each_gets_its_own_answer() -> None:
    tool = Echo()
    async with edge(tool) as client:
        slow = asyncio.create_task(client.call_tool("echo", {"wait": 1}))
        await tool.started.wait()
        quick = await asyncio.gather(*(client.call_tool("echo", {"n": n}) for n in range(50)))
        assert not slow.done()
        tool.go.set()
        assert (await slow).structuredContent == {"wait": 1}
    assert [result.structuredContent["n"] for result in quick] == list(range(50))


async def test_progress_comes_to_the_call_that_asked_for_it() -> None:
    seen: list[tuple[float, float | None, str]] = []
    async with edge() as client:
        await client.call_tool("echo", {})
        await client.call_tool("echo", {}, lambda *step: seen.append(step))
    assert seen == [(1, 2, "half way")]


async def test_a_cancelled_call_is_withdrawn_and_the_connection_lives_on() -> None:
    tool = Echo()
    async with edge(tool) as client:
        call = asyncio.create_task(client.call_tool("echo", {"wait": 1}))
        await tool.started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await tool.cancelled.wait()
        assert (await client.call_tool("echo", {"b": 2})).structuredContent == {"b": 2}


@pytest.mark.parametrize("code", [-32022, -32601, -32602, -32600, -32000])
async def test_a_server_of_the_legacy_era_is_spoken_to_in_its_own(code: int) -> None:
    server = Scripted(
        server__discover={"error": {"code": code, "message": "what?"}},
        initialize=INITIALIZED,
        tools__list={"result": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}},
        tools__call={"result": {"content": [{"type": "text", "text": "done"}]}},
    )
    async with serving(server.serve) as connection, Client(connection) as client:
        assert client.version == "2025-06-18"
        assert [tool.name for tool in await client.list_tools()] == ["t"]
        result = await client.call_tool("t", {"x": 1})
    assert result.structuredContent is msgspec.UNSET
    assert server.methods() == ["server/discover", "initialize", "notifications/initialized", "tools/list", "tools/call"]
    assert "_meta" not in server.seen[-1]["params"]


async def test_a_modern_server_without_the_modern_revision_that_is_meant_is_initialized() -> None:
    server = Scripted(server__discover={"result": {"supportedVersions": ["2031-01-01"]}}, initialize=INITIALIZED)
    async with serving(server.serve) as connection, Client(connection) as client:
        assert client.version == "2025-06-18"


async def test_a_server_of_an_unknown_revision_is_refused() -> None:
    server = Scripted(initialize={"result": {"protocolVersion": "1999-01-01"}})
    async with serving(server.serve) as connection:
        with pytest.raises(CallError, match="speaks MCP 1999-01-01"):
            await Client(connection).__aenter__()


async def test_all_pages_of_a_list_are_read() -> None:
    pages = {None: {"tools": [{"name": "one"}], "nextCursor": "2"}, "2": {"tools": [{"name": "two"}]}}
    server = Scripted(server__discover=DISCOVERED, tools__list=lambda params: {"result": pages[params.get("cursor")]})
    async with serving(server.serve) as connection, Client(connection) as client:
        assert [tool.name for tool in await client.list_tools()] == ["one", "two"]


async def test_what_a_server_asks_is_answered() -> None:
    answered = asyncio.Event()
    answers: dict[str, Any] = {}

    async def serve(connection: Connection) -> None:
        async for frame in connection:
            message = json.loads(bytes(frame)) if isinstance(frame, bytes) else {}
            if message.get("method") == "server/discover":
                await connection.send(b'{"jsonrpc":"2.0","id":"p","method":"ping"}')
                await connection.send(b'{"jsonrpc":"2.0","id":"r","method":"roots/list"}')
                await connection.send(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"nonsense":1}}')
                await connection.send(b'{"jsonrpc":"2.0","id":999,"result":{}}')
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **DISCOVERED}).encode())
            else:
                answers[message["id"]] = message
                if len(answers) == 2:
                    answered.set()

    async with serving(serve) as connection, Client(connection):
        await answered.wait()
    assert answers["p"]["result"] == {}
    assert answers["r"]["error"]["code"] == -32601


async def test_the_end_of_the_connection_fails_every_call_in_flight_and_every_later_one() -> None:
    server = Scripted(server__discover=DISCOVERED, tools__call=None)
    async with serving(server.serve) as connection, Client(connection) as client:
        calls = [asyncio.create_task(client.call_tool("t", {})) for _ in range(3)]
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ConnectionClosed)
            assert str(outcome) == "the server closed the connection"
        with pytest.raises(ConnectionClosed, match="the server closed the connection"):
            await client.call_tool("t", {})


async def test_after_close_no_call_is_possible() -> None:
    async with edge() as client:
        pass
    with pytest.raises(ConnectionClosed, match="this client is closed"):
        await client.call_tool("echo", {})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>hello</html>", "not MCP: not valid JSON"),
        (b'{"id":1,"result":{}}', "not MCP: not a JSON-RPC 2.0 message"),
        (b'{"jsonrpc":"2.0","id":1}', "neither result nor error"),
        (b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}', "not MCP: parse error"),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}', "not MCP"),
        (b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * 2000 + b'"}', "more than the 1000 allowed"),
    ],
)
async def test_a_peer_that_does_not_speak_mcp_is_an_error_that_says_so(answer: bytes, reason: str) -> None:
    async with serving(Scripted(server__discover=answer).serve, limit=1000) as connection:
        with pytest.raises((CallError, ConnectionClosed)) as caught:
            await Client(connection).__aenter__()
    assert reason in str(caught.value)


async def test_an_answer_that_is_no_tool_result_is_an_error() -> None:
    server = Scripted(server__discover=DISCOVERED, tools__call={"result": {"surprise": 1}}, tools__list={"result": []})
    async with serving(server.serve) as connection, Client(connection) as client:
        with pytest.raises(CallError, match="answer to tools/call is not what MCP says"):
            await client.call_tool("t", {})
        with pytest.raises(CallError, match="answer to tools/list is not what MCP says"):
            await client.list_tools()


async def test_a_list_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_MESSAGE", 200_000)
    empty = {"result": {"tools": [], "nextCursor": "more"}}
    server = Scripted(server__discover=DISCOVERED, tools__list=empty)
    async with serving(server.serve) as connection, Client(connection) as client:
        with pytest.raises(CallError, match="tools are too many: their list has more than 200000 bytes"):
            await client.list_tools()
    assert server.methods().count("tools/list") < 10


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize("value", [object(), "\ud800", CYCLE], ids=["object", "half a character", "cycle"])
async def test_what_cannot_be_written_is_refused_and_the_connection_stays(value: Any) -> None:
    async with edge() as client:
        with pytest.raises(ArgumentError, match="the arguments cannot be written as JSON"):
            await client.call_tool("echo", {"a": value})
        assert (await client.call_tool("echo", {"a": 1})).structuredContent == {"a": 1}


async def test_only_what_was_asked_for_is_told() -> None:
    """A server may say more, without an end; and an older one says everything to everybody."""
    said = [("prompts/list_changed", ""), *(("resources/updated", uri) for uri in ("a://bc", "x", "a://b/part", "a://b"))]

    async def serve(connection: Connection) -> None:
        async for frame in connection:
            assert not isinstance(frame, Oversized)
            message = json.loads(frame)
            if message["method"] == "server/discover":
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **DISCOVERED}).encode())
            elif message["method"] == "subscriptions/listen":
                about = {"_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]}}
                for name, uri in said:
                    await connection.send(jsonrpc.notification(f"notifications/{name}", {"uri": uri, **about}))

    heard: list[str] = []
    come = asyncio.Event()

    def note(word: str) -> None:
        heard.append(word)
        if len(heard) == 2:
            come.set()

    async with serving(serve) as connection, Client(connection) as client:
        listening = asyncio.create_task(client.listen(["tools", "a://b"], note))
        await come.wait()
        listening.cancel()
        await asyncio.wait([listening])
    assert heard == ["a://b", "a://b"]


async def test_a_peer_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "OPEN_S", 0.05)

    async def serve(connection: Connection) -> None:
        async for _ in connection:
            pass

    async with serving(serve) as connection:
        with pytest.raises(CallError, match="memory does not answer as an MCP server would"):
            await Client(connection).__aenter__()


async def test_changes_of_a_server_of_the_legacy_era_are_told() -> None:
    heard: list[str] = []
    subscribed: list[str] = []

    async def serve(connection: Connection) -> None:
        async for frame in connection:
            assert not isinstance(frame, Oversized)
            message = json.loads(frame)
            if message.get("method") == "resources/subscribe":
                subscribed.append(message["params"]["uri"])
            answer: dict[str, Any] = INITIALIZED if message["method"] == "initialize" else {"result": {}}
            if message["method"] == "server/discover":
                answer = {"error": {"code": -32601, "message": "method not found"}}
            if "id" in message:
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}).encode())
            if message.get("method") == "tools/call":
                await connection.send(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
                await connection.send(b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a://b"}}')

    come = asyncio.Event()

    def note(word: str) -> None:
        heard.append(word)
        come.set()

    async with serving(serve) as connection, Client(connection) as client:
        listening = asyncio.create_task(client.listen(["tools", "a://b"], note))
        await come.wait()
        with pytest.raises(CallError, match="not what MCP says"):  # the server's answer has no content
            await client.call_tool("t", {})
        while len(heard) < 3:
            come.clear()
            await come.wait()
        listening.cancel()
        await asyncio.wait([listening])
    assert heard == ["", "tools", "a://b"]
    assert subscribed == ["a://b"]


async def test_a_server_says_how_it_keeps_the_connection_alive_and_when_that_changes() -> None:
    told = {"io.edge-mcp/keepalive": {"intervalMs": 45_000, "graceMs": 20_000, "state": "nominal"}}
    server = Scripted(server__discover={"result": {"supportedVersions": ["2026-07-28"], "_meta": told}})
    changed = b'{"jsonrpc":"2.0","method":"notifications/io.edge-mcp/keepalive","params":{"intervalMs":90000,"graceMs":20000}}'
    server.handlers["resources/read"] = changed
    async with serving(server.serve) as connection, Client(connection) as client:
        assert client.silence_s == 65
        assert server.seen[0]["params"]["_meta"]["io.edge-mcp/keepalive"] == {}
        reading = asyncio.create_task(client.read("a://b"))
        while client.silence_s == 65:
            await asyncio.sleep(0)
        assert client.silence_s == 110
        reading.cancel()
        await asyncio.wait([reading])
