"""The client's side of MCP, over any connection: calls out, answers in, as many at once as the caller likes."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

import edge_mcp
from edge_mcp.client.messages import KEEPALIVE, Contents, KeepAlive, ListedTool, NoteParams, Opened, Read, ToolList
from edge_mcp.errors import ArgumentError, CallError, ConnectionClosed
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.codec import Codec, codec_of
from edge_mcp.protocol.jsonrpc import ErrorObject, Malformed, RequestId
from edge_mcp.protocol.messages import ProgressParams, ToolResult
from edge_mcp.protocol.versions import LEGACY, MODERN
from edge_mcp.transports.base import MAX_MESSAGE, Connection, Oversized

logger = logging.getLogger(__name__)

OPEN_S = 60.0
TOO_LARGE = 1009
"""How a WebSocket is closed for a message that is larger than allowed (RFC 6455, 7.4.1)."""
_LAST_WORD_S = 1.0
_PAGE = 32 * 1024  # what a page of a list counts besides its bytes, so that empty ones have an end too
_INFO = {"name": "edge-mcp", "version": edge_mcp.__version__}
_MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN[-1],
    "io.modelcontextprotocol/clientInfo": _INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}

Progress = Callable[[float, float | None, str], None]
"""`progress(done, total, message)`."""
Note = Callable[[str], None]
"""Gets the word of LISTS or the URI that has changed, and "" when the server begins to tell."""
LISTS = {
    "tools": "toolsListChanged",
    "prompts": "promptsListChanged",
    "resources": "resourcesListChanged",
}
"""What besides a resource's URI can be listened to, and what asks for it (2026-07-28, Subscriptions)."""
_CHANGED = {f"notifications/{word}/list_changed": word for word in LISTS}
T = TypeVar("T")


class NotSent(ConnectionClosed):
    """The connection had ended before a request was sent."""


class Client:
    """One conversation with a server, for the length of an `async with`, which opens and closes the connection.

    Entering raises CallError when what is there is no MCP server. When the connection ends, calls in flight and later
    ones raise ConnectionClosed with the reason, and NotSent where the server cannot have heard of them.
    """

    def __init__(self, connection: Connection) -> None:
        self.version = ""
        self.silence_s: float | None = None
        """After so long without a word the server is gone, as it promised when the conversation opened, or later."""
        self.codec = codec_of(connection.encoding)
        self._connection = connection
        self._meta: dict[str, Any] = {}
        self._ids = count(1)
        self._pending: dict[RequestId, asyncio.Future[msgspec.Raw]] = {}
        self._sizes: dict[RequestId, int] = {}
        self._progress: dict[RequestId, Progress] = {}
        self._notes: dict[RequestId, Note] = {}
        self._sending = asyncio.Lock()
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

    async def wait(self) -> str:
        """Why the conversation ended, once it has."""
        assert self._reader is not None, "it was opened"  # noqa: S101
        await asyncio.wait([self._reader])
        return self._ended

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
        """All tools of the server. Raises: CallError, also where the list has no end; ConnectionClosed."""
        tools: list[ListedTool] = []
        cursor: str | None = None
        size = 0
        while size <= MAX_MESSAGE:
            params = {} if cursor is None else {"cursor": cursor}
            raw = await self.request("tools/list", params, msgspec.Raw)
            page = self._decoded("tools/list", raw, ToolList)
            tools += page.tools
            cursor = page.nextCursor
            if not cursor:
                return tools
            size += len(bytes(raw)) + _PAGE
        raise CallError(f"the server's tools are too many: their list has more than {MAX_MESSAGE} bytes")

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any],
        on_progress: Progress | None = None,
        meta: Callable[[], dict[str, Any]] = dict,
    ) -> ToolResult:
        """Call a tool; a tool that failed answers a result with `isError`. Cancelling this withdraws the call.

        `meta` is what else to tell the server about the call, when it is sent. Raises: CallError, ConnectionClosed.
        """
        return await self.request("tools/call", {"name": name, "arguments": arguments}, ToolResult, on_progress, meta)

    async def read(self, uri: str) -> Contents:
        """A resource's contents; the first ones where there are several. Raises: CallError, ConnectionClosed."""
        read = await self.request("resources/read", {"uri": uri}, Read)
        if not read.contents:
            raise CallError(f"the server's {uri} is empty")
        return read.contents[0]

    async def listen(self, wanted: Collection[str], note: Note) -> None:
        """Be told of changes until this is cancelled; see Note. Raises: CallError, ConnectionClosed."""
        note = _only(wanted, note)
        uris = [word for word in wanted if word not in LISTS]
        if self.version in MODERN:
            asks = {LISTS[word]: True for word in wanted if word in LISTS}
            params = {"notifications": {**asks, "resourceSubscriptions": uris}}
            await self.request("subscriptions/listen", params, dict, note=note)
            raise ConnectionClosed("the server tells no more")
        listener = next(self._ids)
        self._notes[listener] = note
        try:
            for uri in uris:
                await self.request("resources/subscribe", {"uri": uri}, dict)
            note("")
            await asyncio.get_running_loop().create_future()
        finally:
            del self._notes[listener]

    async def _open(self) -> None:
        """Agree on a revision: modern where the server knows it, else the one it answers `initialize` with."""
        self._meta = _MODERN_META
        wish: dict[str, Any] = {KEEPALIVE: {}}
        try:
            opened = await self.request("server/discover", {}, Opened, meta=lambda: wish)
        except CallError:
            opened = Opened()  # a server of the legacy era refuses in many ways: any error means that
        if MODERN[-1] in opened.supportedVersions:
            self.version = MODERN[-1]
        else:
            self._meta = {}
            params = {"protocolVersion": LEGACY[-1], "capabilities": {}, "clientInfo": _INFO}
            opened = await self.request("initialize", params, Opened, meta=lambda: wish)
            self.version = opened.protocolVersion
            if self.version not in LEGACY:
                raise CallError(f"the server speaks MCP {self.version or 'of no revision'}, which this client does not")
            await self._connection.send(self.codec.notification("notifications/initialized", {}))
        self._promised(opened.meta.keepalive)

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        kind: type[T],
        on_progress: Progress | None = None,
        meta: Callable[[], dict[str, Any]] = dict,
        note: Note | None = None,
    ) -> T:
        """What the server answers to a request. `note` gets what is told on it as a subscription.

        Raises: CallError, ConnectionClosed; ArgumentError for what cannot be sent.
        """
        if self._ended:
            raise NotSent(self._ended)
        request_id = next(self._ids)
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        try:
            async with self._sending:  # one at a time: what waits is not encoded yet
                if self._ended:
                    raise NotSent(self._ended)
                about = {**self._meta, **meta()}
                if on_progress is not None:
                    self._progress[request_id] = on_progress
                    about["progressToken"] = request_id
                if note is not None:
                    self._notes[request_id] = note
                frame = self._encoded(request_id, method, {**params, "_meta": about} if about else params)
                self._pending[request_id], self._sizes[request_id] = answer, len(frame)
                await self._send(frame)
                del frame
            raw = await answer
        except asyncio.CancelledError:
            if request_id in self._pending and method != "initialize" and not self._ended:
                self._say_goodbye(request_id)
            raise
        finally:
            for table in (self._pending, self._sizes, self._progress, self._notes):
                table.pop(request_id, None)
        return self._decoded(method, raw, kind)

    def _encoded(self, request_id: RequestId, method: str, params: dict[str, Any]) -> bytes:
        """Raises: ArgumentError."""
        try:
            return self.codec.call(request_id, method, params)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ArgumentError(f"the arguments cannot be written as {self.codec.title}: {error}") from error

    def _decoded(self, method: str, raw: msgspec.Raw, kind: type[T]) -> T:
        """Raises: CallError."""
        try:
            return self.codec.decode(raw, kind)
        except jsonrpc.UNDECODABLE as error:
            raise CallError(f"the server's answer to {method} is not what MCP says: {error}") from error

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
        frame = self.codec.notification("notifications/cancelled", {"requestId": request_id})
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
        envelope = self.codec.envelope(frame)
        known = self.codec.request_id(envelope.id) if jsonrpc.present(envelope.id) else None
        if isinstance(envelope.method, str):
            if known is not None:
                await self._connection.send(self._answer(known, envelope.method))
            else:
                with suppress(*jsonrpc.UNDECODABLE):  # a notification is never answered, not even a wrong one
                    self._noted(envelope.method, envelope.params)
        elif known is None:
            raise Malformed(jsonrpc.INVALID_REQUEST, _error(envelope.error, self.codec).message, None)
        elif (waiting := self._pending.get(known)) is not None and not waiting.done():
            if jsonrpc.present(envelope.result):
                waiting.set_result(envelope.result)
            else:
                error = _error(envelope.error, self.codec)
                data = None if error.data is msgspec.UNSET else error.data
                waiting.set_exception(CallError(error.message, code=error.code, data=data))

    def _answer(self, request_id: RequestId, method: str) -> bytes:
        """To what the server asks: it may ask whether the client is there, and nothing else."""
        if method == "ping":
            return self.codec.result(request_id, {})
        return self.codec.error(request_id, jsonrpc.METHOD_NOT_FOUND, f"method not found: {method[:100]}")

    def _noted(self, method: str, params: msgspec.Raw) -> None:
        """Raises: one of jsonrpc.UNDECODABLE."""
        match method:
            case "notifications/progress":
                self._progressed(self.codec.decode(params, ProgressParams))
            case "notifications/io.edge-mcp/keepalive":
                self._promised(self.codec.decode(params, KeepAlive))
            case "notifications/subscriptions/acknowledged" | "notifications/resources/updated":
                self._tell(self.codec.decode(params, NoteParams))
            case _ if method in _CHANGED:
                told = self.codec.decode(params if jsonrpc.present(params) else self.codec.empty, NoteParams)
                told.uri = _CHANGED[method]
                self._tell(told)

    def _progressed(self, progress: ProgressParams) -> None:
        if on_progress := self._progress.get(progress.progressToken):
            try:
                on_progress(progress.progress, progress.total, progress.message)
            except Exception:  # the caller's own; the conversation is that of others too
                logger.exception("a progress callback failed")

    def _tell(self, told: NoteParams) -> None:
        if told.meta.subscription is None:
            for note in list(self._notes.values()):
                note(told.uri)
        elif note_of := self._notes.get(told.meta.subscription):
            note_of(told.uri)

    def _promised(self, keepalive: KeepAlive | None) -> None:
        if keepalive is not None:
            self.silence_s = (keepalive.intervalMs + keepalive.graceMs) / 1000

    def _end(self, why: str) -> None:
        """From now on nothing will be answered; the first reason counts."""
        self._ended = self._ended or why
        if getattr(self._connection, "close_code", None) == TOO_LARGE and self._sizes:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            if not self._pending[largest].done():  # it would end the next connection too
                self._pending[largest].set_exception(CallError(self._ended))
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(ConnectionClosed(self._ended))


def _only(wanted: Collection[str], note: Note) -> Note:
    """`note` for what was asked for, and nothing else that a server may say; a part of a resource counts as the resource."""

    def told(word: str) -> None:
        if word and word not in wanted:
            whole = (uri for uri in wanted if uri not in LISTS and word.startswith(uri.rstrip("/") + "/"))
            word = next(whole, "")
            if not word:
                return
        note(word)

    return told


def _error(raw: msgspec.Raw, codec: Codec) -> ErrorObject:
    try:
        return codec.decode(raw, ErrorObject)
    except jsonrpc.UNDECODABLE:
        raise Malformed(jsonrpc.INVALID_REQUEST, "an answer has neither result nor error", None) from None
