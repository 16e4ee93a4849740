"""Every message that the server sends is as the schema of its revision has it, on every kind of connection."""

import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from edge_mcp.transports.memory import pair
from tests.packing import as_json, packed, unpacked
from tests.processes import ROOT
from tests.schema.everything import everything
from tests.schema.wire import LEGACY, MODERN, Judge

FIXTURES = ROOT / "tests/fixtures"
EVERYTHING = [sys.executable, "-m", "tests.schema.everything"]
TASKS = "io.modelcontextprotocol/tasks"
ABLE: dict[str, Any] = {"sampling": {}, "elicitation": {}, "roots": {}, "extensions": {TASKS: {}}}
ANSWERS: dict[str, dict[str, Any]] = {
    "elicitation/create": {"action": "accept", "content": {"name": "Ada"}},
    "sampling/createMessage": {"role": "assistant", "content": {"type": "text", "text": "So."}, "model": "m"},
    "roots/list": {"roots": [{"uri": "file:///home"}]},
}


class Link(Protocol):
    """One way to the server."""

    async def send(self, frame: bytes) -> None: ...

    async def receive(self) -> bytes | str: ...


class Memory:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._frames = aiter(client)

    async def send(self, frame: bytes) -> None:
        await self._client.send(frame)

    async def receive(self) -> bytes:
        return bytes(await anext(self._frames))


class Packed(Memory):
    """As MessagePack, made and read by another library."""

    async def send(self, frame: bytes) -> None:
        try:
            message = json.loads(frame)
        except ValueError:
            await super().send(b"\xc1")
        else:
            await super().send(packed(message))

    async def receive(self) -> bytes:
        return json.dumps(as_json(unpacked(await super().receive()))).encode()


class Pipes:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self._in, self._out = process.stdin, process.stdout

    async def send(self, frame: bytes) -> None:
        self._in.write(frame + b"\n")
        await self._in.drain()

    async def receive(self) -> bytes:
        return await self._out.readline()


class Socket:
    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def send(self, frame: bytes) -> None:
        await self._socket.send(frame.decode())

    async def receive(self) -> Any:
        return await self._socket.recv()


class Http:
    """Streamable HTTP of either era: each message is a POST, and whatever comes back on any stream is received."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url
        self._headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._posts: dict[Any, asyncio.Task[None]] = {}

    async def send(self, frame: bytes) -> None:
        try:
            message = json.loads(frame)
        except ValueError:
            message = []
        params = message.get("params", {}) if isinstance(message, dict) else {}
        headers = dict(self._headers)
        if revision := params.get("_meta", {}).get("io.modelcontextprotocol/protocolVersion"):
            headers |= {"MCP-Protocol-Version": revision, "Mcp-Method": message["method"]}
            for key in params.keys() & {"name", "uri", "taskId"}:
                headers["Mcp-Name"] = params[key]
        elif "Mcp-Session-Id" not in self._headers and "requestId" in params:
            self._posts[params["requestId"]].cancel()  # leaving is how a call is cancelled
            return
        number = message.get("id") if isinstance(message, dict) else None
        self._posts[number or object()] = asyncio.create_task(self._exchange("POST", headers, frame))
        if isinstance(message, dict) and message.get("method") == "notifications/initialized":
            self._posts["general"] = asyncio.create_task(self._exchange("GET", headers, b""))

    async def _exchange(self, method: str, headers: dict[str, str], frame: bytes) -> None:
        async with self._http.request(method, self._url, headers=headers, data=frame) as response:
            if session := response.headers.get("Mcp-Session-Id"):
                self._headers |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
            if response.content_type == "application/json":
                await self._frames.put(await response.read())
            async for line in response.content:
                if (data := line.removeprefix(b"data:").strip()) and line.startswith(b"data:"):
                    await self._frames.put(data)

    async def receive(self) -> bytes:
        return await self._frames.get()

    async def close(self) -> None:
        for post in self._posts.values():
            post.cancel()
        await asyncio.gather(*self._posts.values(), return_exceptions=True)


@asynccontextmanager
async def memory(encoding: str = "json") -> AsyncIterator[Link]:
    ours, theirs = pair(encoding=encoding)
    server = everything()
    serving = asyncio.create_task(server.connect(ours))
    try:
        yield Memory(theirs) if encoding == "json" else Packed(theirs)
    finally:
        await server.close()
        await asyncio.wait_for(serving, 30)


def msgpack() -> AbstractAsyncContextManager[Link]:
    return memory("msgpack")


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *EVERYTHING, *arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, limit=2**26
    )
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)


@asynccontextmanager
async def stdio() -> AsyncIterator[Link]:
    async with started("--stdio") as process:
        yield Pipes(process)


@asynccontextmanager
async def listening() -> AsyncIterator[str]:
    async with started("--listen", "127.0.0.1:0") as process:
        assert process.stderr
        async with asyncio.timeout(20):
            while not (found := re.search(r"listening on \w+(://\S+)", (await process.stderr.readline()).decode())):
                pass
        yield found[1]


@asynccontextmanager
async def websocket() -> AsyncIterator[Link]:
    async with (
        listening() as place,
        connect("ws" + place, subprotocols=[Subprotocol("mcp")], max_size=None) as socket,
    ):
        yield Socket(socket)


@asynccontextmanager
async def http() -> AsyncIterator[Link]:
    async with listening() as place, aiohttp.ClientSession(read_bufsize=2**24) as session:
        link = Http(session, "http" + place)
        try:
            yield link
        finally:
            await link.close()


@dataclass
class Talk:
    """A conversation in one revision, of which every message from the server is judged."""

    link: Link
    revision: str
    judge: Judge
    heard: list[dict[str, Any]] = field(default_factory=list)
    """Notifications."""
    _ids: int = 0

    async def ask(self, method: str, meta: dict[str, Any] | None = None, able: dict[str, Any] = ABLE, **params: Any) -> Any:
        """The answer to a request: its result, or its error."""
        request_id = await self.begin(method, meta, able, **params)
        while (message := await self.hear()).get("id") != request_id or "method" in message:
            pass
        return message.get("result", message.get("error"))

    async def begin(self, method: str, meta: dict[str, Any] | None = None, able: dict[str, Any] = ABLE, **params: Any) -> int:
        self._ids += 1
        envelope = {} if self.revision != MODERN else {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": able,
        }  # fmt: skip
        request = {
            "jsonrpc": "2.0",
            "id": self._ids,
            "method": method,
            "params": {**params, "_meta": {**envelope, **(meta or {})}},
        }
        await self.tell(request)
        return self._ids

    async def tell(self, message: dict[str, Any]) -> None:
        self.judge.sent(message)
        await self.link.send(json.dumps(message).encode())

    async def hear(self) -> dict[str, Any]:
        """The next message; questions to the client are answered."""
        message = self.judge.received(await asyncio.wait_for(self.link.receive(), 60))
        if "method" in message and "id" in message:
            await self.tell({"jsonrpc": "2.0", "id": message["id"], "result": ANSWERS[message["method"]]})
        elif "method" in message:
            self.heard.append(message)
        return message

    async def until(self, method: str) -> dict[str, Any]:
        """A notification, which may have come already."""
        while not (found := [message for message in self.heard if message["method"] == method]):
            await self.hear()
        return found[0]

    async def refused(self, frame: bytes) -> int:
        """The code of the error that answers a wrong frame."""
        await self.link.send(frame)
        return int((await self.hear())["error"]["code"])


def b64(name: str) -> str:
    return base64.b64encode((FIXTURES / name).read_bytes()).decode()


async def lists_and_calls(talk: Talk) -> None:
    """What is the same in both eras."""
    names = {tool["name"] for tool in (await talk.ask("tools/list"))["tools"]}
    picture = b64("chelsea.png")
    calls = {
        "classify_image": {"image": picture},
        "detect_faces": {"image": picture},
        "detect_objects": {"image": picture},
        "detect_language": {"text": "Good morning, how are you?"},
        "identify_file": {"data": picture},
        "show": {},
        "report": {},
        "change": {},
    }
    assert calls.keys() < names
    for name, arguments in calls.items():
        result = await talk.ask("tools/call", name=name, arguments=arguments, meta={"progressToken": name})
        assert not result.get("isError"), result
    for name in ["fail", "detect_objects", "classify_image", "detect_language"]:
        assert (await talk.ask("tools/call", name=name, arguments={"wrong": 1}))["isError"]
    for method in ("resources/list", "resources/templates/list", "prompts/list"):
        assert "code" not in await talk.ask(method)
    for resource in (await talk.ask("resources/list"))["resources"]:
        assert (await talk.ask("resources/read", uri=resource["uri"]))["contents"]
    assert (await talk.ask("resources/read", uri="test://Ada/greeting"))["contents"]
    assert (await talk.ask("prompts/get", name="summarize", arguments={"style": "at length"}))["messages"]
    for ref, argument in [
        ({"type": "ref/prompt", "name": "summarize"}, {"name": "style", "value": "b"}),
        ({"type": "ref/resource", "uri": "test://{name}/greeting"}, {"name": "name", "value": "A"}),
    ]:
        assert (await talk.ask("completion/complete", ref=ref, argument=argument))["completion"]["values"]
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("resources/read", {"uri": "test://nothing"}),
        ("tools/call", {"name": "nothing"}),
        ("tools/call", {}),
        ("tools/list", {"cursor": "nothing"}),
        ("prompts/get", {"name": "nothing"}),
        ("prompts/get", {"name": "introduce"}),
        ("completion/complete", {"ref": 1}),
        ("no/such/method", {}),
    ]
    for method, params in wrong:
        assert (await talk.ask(method, **params))["code"] < 0
    assert await talk.refused(b"{") == -32700
    assert await talk.refused(b"[]") == -32600
    assert await talk.refused(b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}') == -32600


async def cancel(talk: Talk) -> None:
    request = await talk.begin("tools/call", name="work", arguments={"seconds": 60}, able={})
    await talk.tell({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request}})


async def legacy(talk: Talk) -> None:
    """All that a client of 2025-11-25 can have."""
    client = {
        "capabilities": {key: ABLE[key] for key in ("sampling", "elicitation", "roots")},
        "clientInfo": {"name": "c", "version": "1"},
    }
    assert (await talk.ask("tools/list"))["code"] < 0
    assert (await talk.ask("initialize"))["code"] < 0
    assert (await talk.ask("initialize", protocolVersion=LEGACY, **client))["protocolVersion"] == LEGACY
    await talk.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert await talk.ask("ping") == {}
    assert await talk.ask("logging/setLevel", level="debug") == {}
    assert (await talk.ask("logging/setLevel", level="loud"))["code"] == -32602
    assert await talk.ask("resources/subscribe", uri="test://text") == {}
    await lists_and_calls(talk)
    for method in ("tools", "prompts", "resources"):
        await talk.until(f"notifications/{method}/list_changed")
    await talk.until("notifications/resources/updated")
    assert await talk.ask("resources/unsubscribe", uri="test://text") == {}
    for name in ("greet", "think", "look_around"):
        assert not (await talk.ask("tools/call", name=name, arguments={})).get("isError")
    assert (await talk.ask("prompts/get", name="introduce", arguments={"style": "briefly"}))["messages"]
    await cancel(talk)
    assert (await talk.ask("tools/list", meta={"io.modelcontextprotocol/protocolVersion": MODERN}))["code"] < 0
    assert (await talk.ask("server/discover"))["code"] == -32601


async def modern(talk: Talk) -> None:
    """All that a client of 2026-07-28 can have."""
    assert (await talk.ask("tools/list", meta={"io.modelcontextprotocol/protocolVersion": "2099-01-01"}))["code"] == -32022
    assert MODERN in (await talk.ask("server/discover"))["supportedVersions"]
    assert (await talk.ask("initialize", protocolVersion=LEGACY, capabilities={}, clientInfo={"name": "c", "version": "1"}))[
        "code"
    ] < 0
    wanted = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
    listening = await talk.begin("subscriptions/listen", notifications={**wanted, "resourceSubscriptions": ["test://text"]})
    await talk.until("notifications/subscriptions/acknowledged")
    await lists_and_calls(talk)
    for method in ("tools", "prompts", "resources"):
        await talk.until(f"notifications/{method}/list_changed")
    await talk.until("notifications/resources/updated")
    await talk.tell({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": listening}})
    await talk.ask("tools/call", name="report", meta={"progressToken": 1, "io.modelcontextprotocol/logLevel": "debug"})
    assert (await talk.ask("tools/list", meta={"io.modelcontextprotocol/logLevel": "loud"}))["code"] == -32602
    assert (await talk.ask("ping"))["code"] == -32601
    asking: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": "greet", "arguments": {}}),
        ("tools/call", {"name": "think", "arguments": {}}),
        ("tools/call", {"name": "look_around", "arguments": {}}),
        ("prompts/get", {"name": "introduce", "arguments": {"style": "briefly"}}),
    ]
    for method, params in asking:
        asked = await talk.ask(method, **params)
        answers = {key: ANSWERS[question["method"]] for key, question in asked["inputRequests"].items()}
        given = await talk.ask(method, **params, inputResponses=answers, requestState=asked["requestState"])
        assert given["resultType"] == "complete"
        assert (await talk.ask(method, **params, able={}))["code"] == -32021
        assert (await talk.ask(method, **params, inputResponses=answers, requestState="made up"))["code"] == -32602
    await tasks(talk)
    await cancel(talk)


async def tasks(talk: Talk) -> None:
    """The extension io.modelcontextprotocol/tasks."""
    assert (await talk.ask("tools/call", name="work_with", arguments={}, able={}))["code"] == -32021
    assert (await talk.ask("tasks/get", taskId="nothing"))["code"] == -32602
    working = (await talk.ask("tools/call", name="work", arguments={"seconds": 60}))["taskId"]
    assert (await talk.ask("tasks/get", taskId=working))["status"] == "working"
    assert (await talk.ask("tasks/cancel", taskId=working))["resultType"] == "complete"
    assert (await talk.ask("tasks/get", taskId=working))["status"] == "cancelled"
    asking = (await talk.ask("tools/call", name="work_with", arguments={}))["taskId"]
    await talk.begin("subscriptions/listen", notifications={"taskIds": [asking]})
    while (state := await talk.ask("tasks/get", taskId=asking))["status"] == "working":
        await asyncio.sleep(0.01)
    answers = {key: ANSWERS[question["method"]] for key, question in state["inputRequests"].items()}
    assert (await talk.ask("tasks/update", taskId=asking, inputResponses=answers))["resultType"] == "complete"
    await talk.until("notifications/tasks")
    while (state := await talk.ask("tasks/get", taskId=asking))["status"] == "working":
        await asyncio.sleep(0.01)
    assert state["result"]["content"] == [{"type": "text", "text": "worked with Ada"}]


COMMON = {
    "tools/list complete",
    "tools/call complete",
    "resources/list complete",
    "resources/templates/list complete",
    "resources/read complete",
    "prompts/list complete",
    "prompts/get complete",
    "completion/complete complete",
    "notifications/progress",
    "notifications/message",
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    *(f"error {code}" for code in (-32700, -32600, -32601, -32602)),
}
SEEN = {
    LEGACY: {
        "initialize complete",
        "ping complete",
        "logging/setLevel complete",
        "resources/subscribe complete",
        "resources/unsubscribe complete",
        "elicitation/create",
        "sampling/createMessage",
        "roots/list",
        "error -32002",
    },
    MODERN: {
        "server/discover complete",
        "tools/call input_required",
        "prompts/get input_required",
        "tools/call task",
        "tasks/get complete",
        "tasks/update complete",
        "tasks/cancel complete",
        "notifications/subscriptions/acknowledged",
        "notifications/tasks",
        "error -32021",
        "error -32022",
    },
}


@pytest.mark.parametrize("way", [memory, msgpack, stdio, websocket, http])
@pytest.mark.parametrize(("revision", "conversation"), [(LEGACY, legacy), (MODERN, modern)])
async def test_what_the_server_sends_is_valid(way: Any, revision: str, conversation: Any) -> None:
    opened: AbstractAsyncContextManager[Link] = way()
    judge = Judge(revision)
    async with opened as link, asyncio.timeout(120):
        await conversation(Talk(link, revision, judge))
    assert judge.seen - {"error -32800"} == COMMON | SEEN[revision]  # what ends the HTTP response of a cancelled call


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        (LEGACY, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "a"}]}}),
        (LEGACY, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "resultType": "complete"}}),
        (LEGACY, {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": ""}}),
        (LEGACY, {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}),
        (LEGACY, {"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {"message": ""}}),
        (MODERN, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "resultType": "complete"}}),
        (MODERN, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "ttlMs": 1, "cacheScope": "public"}}),
        (MODERN, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32021, "message": "no data"}}),
        (MODERN, {"jsonrpc": "2.0", "id": 5, "method": "roots/list"}),
    ],
)
def test_what_is_wrong_is_seen(revision: str, message: dict[str, Any]) -> None:
    judge = Judge(revision)
    judge.sent({"id": 1, "method": "tools/list"})
    with pytest.raises(AssertionError):
        judge.received(json.dumps(message))
