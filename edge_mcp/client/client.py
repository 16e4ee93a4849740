"""The client's side of MCP, over any connection: calls out, answers in, as many at once as the caller likes."""

import asyncio
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

import edge_mcp
from edge_mcp.errors import CallError, ConnectionClosed
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.codec import Codec, codec_of
from edge_mcp.protocol.jsonrpc import ErrorObject, Malformed, RequestId
from edge_mcp.protocol.messages import ProgressParams, ToolResult
from edge_mcp.protocol.versions import LEGACY, MODERN
from edge_mcp.transports.base import Connection, Oversized

OPEN_S = 60.0
_LAST_WORD_S = 1.0
_INFO = {"name": "edge-mcp", "version": edge_mcp.__version__}
_MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN[-1],
    "io.modelcontextprotocol/clientInfo": _INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}

Progress = Callable[[float, float | None, str], None]
"""`progress(done, total, message)`."""
T = TypeVar("T")


class ListedTool(msgspec.Struct):
    """A tool as any server lists it."""

    name: str
    title: str = ""
    description: str = ""
    inputSchema: dict[str, Any] = {}
    outputSchema: dict[str, Any] | None = None


class _Discovery(msgspec.Struct):
    supportedVersions: list[str]


class _ToolList(msgspec.Struct):
    tools: list[ListedTool]
    nextCursor: str | None = None


class _Contents(msgspec.Struct):
    text: str = ""


class _Read(msgspec.Struct):
    contents: list[_Contents]


class Client:
    """One conversation with a server, for the length of an `async with`, which opens and closes the connection.

    Entering raises CallError when what is there is no MCP server. When the connection ends, calls in flight and later
    ones raise ConnectionClosed with the reason.
    """

    def __init__(self, connection: Connection) -> None:
        self.version = ""
        self._connection = connection
        self._codec = codec_of(connection.encoding)
        self._meta: dict[str, Any] = {}
        self._ids = count(1)
        self._pending: dict[RequestId, asyncio.Future[msgspec.Raw]] = {}
        self._progress: dict[RequestId, Progress] = {}
        self._reader: asyncio.Task[None] | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._ended = ""

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(OPEN_S):
                await self._open()
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise CallError(f"{self._connection.peer.address} does not answer as an MCP server would") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the conversation. Idempotent."""
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=_LAST_WORD_S)
        self._end("this client is closed")
        await self._connection.close()
        tasks = [task for task in (self._reader, *self._goodbyes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def list_tools(self) -> list[ListedTool]:
        """All tools of the server. Raises: CallError, ConnectionClosed."""
        tools: list[ListedTool] = []
        cursor: str | None = None
        while True:
            params = {} if cursor is None else {"cursor": cursor}
            page = self._decoded(await self._request("tools/list", params), _ToolList, "tools/list")
            tools += page.tools
            cursor = page.nextCursor
            if not cursor:
                return tools

    async def call_tool(self, name: str, arguments: dict[str, Any], on_progress: Progress | None = None) -> ToolResult:
        """Call a tool; a tool that failed answers a result with `isError`. Cancelling this withdraws the call.

        Raises: CallError, ConnectionClosed.
        """
        params = {"name": name, "arguments": arguments}
        return self._decoded(await self._request("tools/call", params, on_progress), ToolResult, "tools/call")

    async def read_resource(self, uri: str) -> str:
        """A resource's text; the first one's where there are several. Raises: CallError, ConnectionClosed."""
        read = self._decoded(await self._request("resources/read", {"uri": uri}), _Read, "resources/read")
        if not read.contents:
            raise CallError(f"the server's {uri} is empty")
        return read.contents[0].text

    async def _open(self) -> None:
        """Agree on a revision: modern where the server knows it, else the one it answers `initialize` with."""
        self._meta = _MODERN_META
        try:
            discovery = self._decoded(await self._request("server/discover", {}), _Discovery, "server/discover")
        except CallError:
            discovery = _Discovery([])  # a server of the legacy era refuses in many ways: any error means that
        if MODERN[-1] in discovery.supportedVersions:
            self.version = MODERN[-1]
            return
        self._meta = {}
        answer = await self._request("initialize", {"protocolVersion": LEGACY[-1], "capabilities": {}, "clientInfo": _INFO})
        self.version = self._decoded(answer, dict[str, Any], "initialize").get("protocolVersion", "")
        if self.version not in LEGACY:
            raise CallError(f"the server speaks MCP {self.version or 'of no revision'}, which this client does not")
        await self._connection.send(self._codec.notification("notifications/initialized", {}))

    async def _request(self, method: str, params: dict[str, Any], on_progress: Progress | None = None) -> msgspec.Raw:
        if self._ended:
            raise ConnectionClosed(self._ended)
        request_id = next(self._ids)
        meta = dict(self._meta)
        if on_progress is not None:
            self._progress[request_id] = on_progress
            meta["progressToken"] = request_id
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer
        try:
            await self._send(self._codec.call(request_id, method, {**params, "_meta": meta} if meta else params))
            return await answer
        except asyncio.CancelledError:
            if method == "tools/call" and not self._ended:
                self._say_goodbye(request_id)
            raise
        finally:
            self._pending.pop(request_id, None)
            self._progress.pop(request_id, None)

    async def _send(self, frame: bytes) -> None:
        try:
            await self._connection.send(frame)
        except ConnectionClosed as error:
            # The reader may still have to read why the server went away, and that says more than a broken pipe.
            if self._reader is not None:
                await asyncio.wait([self._reader], timeout=_LAST_WORD_S)
            self._end(str(error))

    def _say_goodbye(self, request_id: RequestId) -> None:
        """Tell the server that nobody waits for this answer any more, without making the canceller wait for that."""
        frame = self._codec.notification("notifications/cancelled", {"requestId": request_id})
        task = asyncio.create_task(self._send(frame))
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)

    async def _read(self) -> None:
        why = ""
        try:
            async for frame in self._connection:
                if isinstance(frame, Oversized):
                    why = f"the server sent a message of {frame.size} bytes, more than the {frame.limit} allowed"
                    break
                await self._receive(frame)
        except Malformed as error:
            why = f"the server sent something that is not MCP: {error.message}"
        except ConnectionClosed as error:
            why = str(error)
        finally:
            # Connections that know why the server went say so in `why`.
            self._end(why or getattr(self._connection, "why", "") or "the server closed the connection")

    async def _receive(self, frame: bytes) -> None:
        """Take one message. Raises: Malformed, ConnectionClosed."""
        envelope = self._codec.envelope(frame)
        known = self._codec.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
        if isinstance(envelope.method, str):
            if known is not None:
                await self._connection.send(self._answer(known, envelope.method))
            elif envelope.method == "notifications/progress":
                self._note_progress(envelope.params)
        elif known is None:
            raise Malformed(jsonrpc.INVALID_REQUEST, _error(envelope.error, self._codec).message, None)
        elif (waiting := self._pending.get(known)) is not None and not waiting.done():
            if jsonrpc.present(envelope.result):
                waiting.set_result(envelope.result)
            else:
                error = _error(envelope.error, self._codec)
                waiting.set_exception(CallError(error.message, code=error.code))

    def _answer(self, request_id: RequestId, method: str) -> bytes:
        """To what the server asks: it may ask whether the client is there, and nothing else."""
        if method == "ping":
            return self._codec.result(request_id, {})
        return self._codec.error(request_id, jsonrpc.METHOD_NOT_FOUND, f"method not found: {method[:100]}")

    def _note_progress(self, raw: msgspec.Raw) -> None:
        try:
            progress = self._codec.decode(raw, ProgressParams)
        except jsonrpc.UNDECODABLE:
            return  # a notification is never answered, not even a wrong one
        if on_progress := self._progress.get(progress.progressToken):
            on_progress(progress.progress, progress.total, progress.message)

    def _decoded(self, raw: msgspec.Raw, kind: type[T], method: str) -> T:
        try:
            return self._codec.decode(raw, kind)
        except jsonrpc.UNDECODABLE as error:
            raise CallError(f"the server's answer to {method} is not what MCP says: {error}") from error

    def _end(self, why: str) -> None:
        """From now on nothing will be answered; the first reason counts."""
        self._ended = self._ended or why
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(ConnectionClosed(self._ended))


def _error(raw: msgspec.Raw, codec: Codec) -> ErrorObject:
    try:
        return codec.decode(raw, ErrorObject)
    except jsonrpc.UNDECODABLE:
        raise Malformed(jsonrpc.INVALID_REQUEST, "an answer has neither result nor error", None) from None
