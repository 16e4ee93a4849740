"""A real listener with a real server and small tools, and what the tests say to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from edge_mcp.context import Context
from edge_mcp.errors import EdgeError
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.messages import Implementation, ToolDefinition, ToolResult
from edge_mcp.server import Server
from edge_mcp.tools.base import TaskUse, Tool
from edge_mcp.transports.http import HttpListener, Options

MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
BOTH = {"Accept": "application/json, text/event-stream"}
Json = dict[str, Any]


@dataclass
class Call:
    """One call of a tool, as the test sees it."""

    context: Context
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


Do = Callable[[Call, Json], Any]


class ATool:
    """A tool that does what a test wants."""

    def __init__(self, name: str, do: Do, properties: Json, begun: asyncio.Queue[Call]) -> None:
        schema = {"type": "object", "properties": properties}
        self.definition = ToolDefinition(name=name, inputSchema=schema)
        self._do = do
        self._begun = begun

    def task_use(self, arguments: Arguments) -> TaskUse:
        return "never"

    async def prepare(self, arguments: Arguments, context: Context) -> None:
        pass

    async def call(self, arguments: Arguments, context: Context) -> ToolResult:
        call = Call(context)
        self._begun.put_nowait(call)
        try:
            said = await self._do(call, arguments.decode(dict))
        except asyncio.CancelledError:
            call.cancelled.set()
            raise
        finally:
            call.ended.set()
        return ToolResult([{"type": "text", "text": str(said)}])


async def echo(call: Call, arguments: Json) -> Any:
    return arguments.get("text", "")


async def hold(call: Call, arguments: Json) -> Any:
    """Wait until the test says so."""
    await call.go_on.wait()
    return "held"


async def count(call: Call, arguments: Json) -> Any:
    """Report progress, with a text of a size."""
    for n in range(arguments["to"]):
        await call.context.progress(n + 1, message="y" * arguments.get("size", 1))
    return "counted"


async def count_then_hold(call: Call, arguments: Json) -> Any:
    await call.context.progress(1)
    await call.go_on.wait()
    await call.context.progress(2)
    return "held"


async def ask(call: Call, arguments: Json) -> Any:
    answer = await call.context.elicit("Who?", {"type": "object", "properties": {"name": {"type": "string"}}})
    return answer["content"]["name"]


async def hang_up(call: Call, arguments: Json) -> Any:
    await call.context.hang_up(50)
    await call.go_on.wait()
    return "after the break"


async def fail(call: Call, arguments: Json) -> Any:
    raise EdgeError("it broke")


async def big(call: Call, arguments: Json) -> Any:
    return "z" * arguments["size"]


class Catalogue:
    """Some tools; `begun` has each call."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[Call] = asyncio.Queue()
        region = {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "where": {"type": "object", "properties": {"floor": {"type": "integer", "x-mcp-header": "Floor"}}},
            "quick": {"type": "boolean", "x-mcp-header": "Quick"},
        }
        does = [echo, hold, count, count_then_hold, ask, hang_up, fail, big]
        self._tools = {do.__name__: ATool(do.__name__, do, {}, self.begun) for do in does}
        self._tools["visit"] = ATool("visit", echo, region, self.begun)

    async def tools(self) -> Mapping[str, Tool]:
        return self._tools

    async def next_call(self) -> Call:
        async with asyncio.timeout(30):
            return await self.begun.get()


@dataclass
class Site:
    """A server that listens."""

    url: str
    server: Server
    catalogue: Catalogue
    http: aiohttp.ClientSession

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").removesuffix("/mcp").split(":")
        return host, int(port)

    def at(self, path: str) -> str:
        return self.url.removesuffix("/mcp") + path

    async def modern(self, method: str, request_id: int | str = 1, headers: Json | None = None, **params: Any) -> "Answer":
        """A request of 2026-07-28."""
        async with self.posting(method, request_id, headers, **params) as response:
            return await Answer.of(response)

    def posting(self, method: str, request_id: int | str = 1, headers: Json | None = None, **params: Any) -> Any:
        """As `modern`, but left open."""
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {"_meta": META} | params}
        return self.http.post(self.url, json=body, headers=modern_headers(method, params) | (headers or {}))

    async def post(self, body: Any, headers: Json | None = None) -> "Answer":
        """A POST with this body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {**BOTH, "Content-Type": "application/json", **(headers or {})}
        async with self.http.post(self.url, data=data, headers=fields) as response:
            return await Answer.of(response)

    async def initialize(self, version: str = "2025-11-25", headers: Json | None = None, **capabilities: Any) -> "Legacy":
        """A session."""
        answer = await self.post(initialize(version, **capabilities), headers)
        assert answer.status == 200, answer
        session = Legacy(self, version, {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], **(headers or {})})
        assert (await session.post({"jsonrpc": "2.0", "method": "notifications/initialized"})).status == 202
        return session

    async def raw(self, data: bytes, until_end: bool = True) -> bytes:
        """What the server answers to these bytes on a connection of their own."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(data)
            async with asyncio.timeout(30):
                return await (reader.read() if until_end else reader.readuntil(b"\r\n\r\n"))
        finally:
            writer.close()


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @staticmethod
    async def of(response: aiohttp.ClientResponse) -> "Answer":
        return Answer(response.status, response.headers, await response.read())

    @property
    def kind(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list["Event"]:
        return [event for block in self.body.decode().split("\n\n") if (event := Event.read(block))]

    @property
    def code(self) -> int:
        return int(self.json["error"]["code"])


@dataclass
class Event:
    """A server-sent event."""

    id: str = ""
    data: str = ""
    kind: str = ""
    retry: str = ""

    @staticmethod
    def read(block: str) -> "Event | None":
        names = {"id": "id", "data": "data", "event": "kind", "retry": "retry"}
        fields = [line.partition(": ") for line in block.splitlines() if line and not line.startswith(":")]
        return Event(**{names[name]: value for name, _, value in fields}) if fields else None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Legacy:
    """A session of a revision until 2025-11-25."""

    site: Site
    version: str
    headers: Json

    def body(self, method: str, request_id: int | str, params: Json) -> Json:
        return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}

    async def post(self, body: Any) -> Answer:
        return await self.site.post(body, self.all_headers)

    async def ask(self, method: str, request_id: int | str = 1, **params: Any) -> Answer:
        return await self.post(self.body(method, request_id, params))

    def asking(self, method: str, request_id: int | str = 1, **params: Any) -> Any:
        """As `ask`, but left open."""
        body = self.body(method, request_id, params)
        return self.site.http.post(self.site.url, json=body, headers=BOTH | self.all_headers)

    def streaming(self, last: str | None = None) -> Any:
        """A GET, left open."""
        resume = {} if last is None else {"Last-Event-ID": last}
        return self.site.http.get(self.site.url, headers={"Accept": "text/event-stream"} | self.all_headers | resume)

    @property
    def all_headers(self) -> Json:
        return {**self.headers, "MCP-Protocol-Version": self.version}


def modern_headers(method: str, params: Json) -> Json:
    """The header fields that a client of 2026-07-28 sends."""
    name = params.get("name") or params.get("uri") or params.get("taskId")
    named = {"Mcp-Name": name} if name else {}
    return {**BOTH, "MCP-Protocol-Version": MODERN, "Mcp-Method": method, **named}


def initialize(version: str = "2025-11-25", **capabilities: Any) -> Json:
    params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


def initialized_request(body: bytes, headers: str = "") -> bytes:
    """A POST as bytes."""
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n{headers}"
    return f"POST /mcp HTTP/1.1\r\n{fields}\r\n".encode() + body


async def event(response: aiohttp.ClientResponse) -> Event | None:
    """The next event of an open stream; None at its end."""
    async with asyncio.timeout(30):
        while True:
            block = b""
            while not block.endswith(b"\n\n"):
                line = await response.content.readline()
                if not line:
                    return None
                block += line
            if found := Event.read(block.decode()):
                return found


def text(answer: Json) -> str:
    """The text of a tool's result."""
    return str(answer["result"]["content"][0]["text"])


@asynccontextmanager
async def listening(options: Options | None = None, stateless: bool = False) -> AsyncIterator[Site]:
    """A server on a free port."""
    catalogue = Catalogue()
    server = Server(Implementation("test", "1"), catalogue)
    chosen = replace(options or Options(), schema=server.input_schema)
    chosen = replace(chosen, stateless=server.serve) if stateless else chosen
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(HttpListener("127.0.0.1", 0, chosen, ready.set_result).listen(server.serve))
    try:
        async with aiohttp.ClientSession() as http:
            yield Site(await asyncio.wait_for(ready, 30), server, catalogue, http)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
