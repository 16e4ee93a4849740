"""A client on the in-memory transport, of either era: it says what a test wants, and keeps what it hears."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from edge_mcp.transports.base import Connection, Peer
from edge_mcp.transports.memory import MemoryConnection, pair
from tests.packing import packed, unpacked

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
TASKS: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
LIMIT_S = 30.0


class Serves(Protocol):
    """A server: the core, or the Python API's by `connect`."""

    async def __call__(self, connection: Connection) -> None: ...


class Talk:
    """One conversation. `answers` say what the client answers to the server's own requests, by method; others are left open."""

    def __init__(self, connection: MemoryConnection, version: str, capabilities: dict[str, Any]) -> None:
        self.connection = connection
        self.version = version
        self.capabilities = capabilities
        self.heard: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self._ids = itertools.count(0)
        self._waiting: dict[Any, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Condition()

    async def read(self) -> None:
        """Take in what the server sends, until it is done."""
        async for frame in self.connection:
            assert isinstance(frame, bytes)
            decoded = json.loads(frame) if self.connection.encoding == "json" else unpacked(frame)
            for message in decoded if isinstance(decoded, list) else [decoded]:
                await self._take(message)

    async def _take(self, message: dict[str, Any]) -> None:
        if "method" in message and "id" in message:
            if answer := self.answers.get(message["method"]):
                outcome = answer(message["params"])
                await self.send({"id": message["id"], "error" if "code" in outcome else "result": outcome})
        elif "method" not in message and message.get("id") in self._waiting:
            self._waiting.pop(message["id"]).set_result(message)
        async with self._changed:
            self.heard.append(message)
            self._changed.notify_all()

    async def send(self, message: Any) -> None:
        """Send any message (or several, as a batch)."""
        whole = [{"jsonrpc": "2.0", **one} for one in message] if isinstance(message, list) else {"jsonrpc": "2.0", **message}
        packs = self.connection.encoding == "msgpack"
        await self.connection.send(packed(whole, ()) if packs else json.dumps(whole).encode())

    async def begin(self, method: str, meta: dict[str, Any] | None = None, **params: Any) -> tuple[int, asyncio.Future[Any]]:
        """Send a request, and do not wait for its answer."""
        number = next(self._ids)
        if self.version == MODERN:
            meta = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
                **(meta or {}),
            }
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.send({"id": number, "method": method, "params": {**params, **({"_meta": meta} if meta else {})}})
        return number, future

    async def ask(self, method: str, meta: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        """The result of a request."""
        answer = await self.whole(method, meta, **params)
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def fail(self, method: str, meta: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        """The error of a request."""
        answer = await self.whole(method, meta, **params)
        assert "error" in answer, answer
        error: dict[str, Any] = answer["error"]
        return error

    async def whole(self, method: str, meta: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        """The answer to a request."""
        _, future = await self.begin(method, meta, **params)
        answer: dict[str, Any] = await asyncio.wait_for(future, LIMIT_S)
        return answer

    async def call(self, tool: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        """The result of a tool."""
        return await self.ask("tools/call", meta, name=tool, arguments=arguments)

    async def hears(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message, heard or yet to come, that is `wanted`."""

        def found() -> dict[str, Any] | None:
            return next((message for message in self.heard if wanted(message)), None)

        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: found() is not None), LIMIT_S)
        message = found()
        assert message is not None
        return message

    async def notified(self, method: str) -> dict[str, Any]:
        """The params of the first notification of this method."""
        message = await self.hears(lambda one: one.get("method") == method)
        params: dict[str, Any] = message["params"]
        return params

    def methods(self) -> list[str]:
        """Of the notifications and requests heard so far."""
        return [message["method"] for message in self.heard if "method" in message]

    async def state(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """A task once it has one of these statuses."""
        for _ in range(1000):
            state = await self.ask("tasks/get", taskId=task_id)
            if state["status"] in statuses:
                return state
            await asyncio.sleep(0)
        raise AssertionError(f"the task stays {state['status']}")


@asynccontextmanager
async def talking(
    serve: Serves,
    version: str = MODERN,
    capabilities: dict[str, Any] | None = None,
    principal: str = "",
    encoding: str = "json",
) -> AsyncIterator[Talk]:
    """A conversation that is open; a legacy one is initialized."""
    theirs, ours = pair(encoding=encoding)
    theirs.peer = Peer("memory", principal=principal)
    serving = asyncio.create_task(serve(theirs))
    talk = Talk(ours, version, capabilities or {})
    reading = asyncio.create_task(talk.read())
    try:
        if version != MODERN:
            hello = {"capabilities": talk.capabilities, "clientInfo": {"name": "talk", "version": "1"}}
            assert (await talk.ask("initialize", protocolVersion=version, **hello))["protocolVersion"] == version
            await talk.send({"method": "notifications/initialized"})
        yield talk
    finally:
        await ours.close()
        await asyncio.wait_for(asyncio.gather(serving, reading), LIMIT_S)
