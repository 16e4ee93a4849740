"""Serves MCP on connections: one loop for every transport. Knows no transport and no runtime."""

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from edge_mcp.errors import ConnectionClosed, EdgeError, EngineError
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import RequestId
from edge_mcp.protocol.messages import CallParams, ListParams, ToolResult
from edge_mcp.protocol.session import About, Answer, Cancelled, Request, Session
from edge_mcp.tools.base import CallContext, Catalogue, Tool
from edge_mcp.transports.base import Connection, Frame

logger = logging.getLogger(__name__)

MAX_CALLS = 128
MAX_CALL_BYTES = 64 * 1024 * 1024


class Server:
    """All connections' server. `drain` ends it."""

    def __init__(self, about: About, catalogue: Catalogue) -> None:
        self.draining = False
        self._about = about
        self._catalogue = catalogue
        self._listing: msgspec.Raw | None = None
        self._live: set[_Conversation] = set()

    async def serve(self, connection: Connection) -> None:
        """Serve one connection until its peer ends it. What is in flight then is answered if the peer still listens."""
        conversation = _Conversation(self, connection, Session(self._about))
        self._live.add(conversation)
        try:
            await conversation.run()
        finally:
            self._live.discard(conversation)

    async def drain(self, seconds: float) -> None:
        """Let calls in flight finish for at most `seconds`, then close every connection."""
        self.draining = True
        tasks = [task for conversation in self._live for task in conversation.calls.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for conversation in list(self._live):
            await conversation.connection.close("the server is stopping")

    async def tools(self) -> Mapping[str, Tool]:
        """The tools by name."""
        return await self._catalogue.tools()

    async def listing(self) -> msgspec.Raw:
        """All tool definitions, encoded once."""
        if self._listing is None:
            tools = await self._catalogue.tools()
            self._listing = msgspec.Raw(msgspec.json.encode([tool.definition for tool in tools.values()]))
        return self._listing


class _Conversation:
    """One connection being served: its session, and its calls in flight.

    When more than `MAX_CALLS` calls or `MAX_CALL_BYTES` of their messages are in flight, no more is read until some end.
    """

    def __init__(self, server: Server, connection: Connection, session: Session) -> None:
        self.connection = connection
        self.calls: dict[RequestId, asyncio.Task[None]] = {}
        self._server = server
        self._session = session
        self._bytes = 0
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve until the peer is done."""
        try:
            async for frame in self.connection:
                for event in self._session.receive(frame):
                    match event:
                        case Answer(frame=answer):
                            await self.connection.send(answer)
                        case Request():
                            await self._begin(event, frame)
                        case Cancelled(id=request_id):
                            if task := self.calls.get(request_id):
                                task.cancel()
            if self.connection.half_close and self.calls:
                await asyncio.wait(self.calls.values())
        except ConnectionClosed as error:
            logger.debug("%s: %s", self.connection.peer.address, error)
        finally:
            for task in self.calls.values():
                task.cancel()

    async def _begin(self, request: Request, frame: Frame) -> None:
        size = len(frame) if isinstance(frame, bytes) else 0
        while self.calls and (len(self.calls) >= MAX_CALLS or self._bytes + size > MAX_CALL_BYTES):
            self._room.clear()
            await self._room.wait()
        task = asyncio.create_task(self._answer(request))
        self.calls[request.id] = task
        self._bytes += size

        def ended(_task: "asyncio.Task[None]") -> None:
            if self.calls.get(request.id) is task:
                del self.calls[request.id]
            self._bytes -= size
            self._room.set()

        task.add_done_callback(ended)

    async def _answer(self, request: Request) -> None:
        try:
            frame = await self._frame(request)
            if frame is not None:
                await self.connection.send(frame)
        except ConnectionClosed as error:
            logger.debug("%s: an answer is lost: %s", self.connection.peer.address, error)

    async def _frame(self, request: Request) -> bytes | None:
        """The frame that answers `request`; None when nobody wants it any more."""
        try:
            match request.params:
                case CallParams():
                    return await self._call(request.id, request.params)
                case ListParams(cursor=None):
                    return self._session.result(request.id, {"tools": await self._server.listing()})
                case _:
                    return self._session.error(request.id, jsonrpc.INVALID_PARAMS, "unknown cursor: the list has one page")
        except EdgeError as error:
            return self._session.result(request.id, ToolResult.failed(str(error)))
        except Exception:
            logger.exception("a request failed unexpectedly")
            return self._session.error(request.id, jsonrpc.INTERNAL_ERROR, "internal error")

    async def _call(self, request_id: RequestId, params: CallParams) -> bytes | None:
        if self._server.draining:
            raise EngineError("the server is stopping", "Call again when it is back")
        tools = await self._server.tools()
        tool = tools.get(params.name)
        if tool is None:
            known = ", ".join(tools) or "none"
            message = f"unknown tool: {params.name[:100]!r}. This server has: {known}"
            return self._session.error(request_id, jsonrpc.INVALID_PARAMS, message)

        async def progress(done: float, total: float, message: str) -> None:
            if (token := params.meta.progress_token) is not None:
                await self.connection.send(self._session.progress(token, done, total, message))

        result = await tool.call(bytes(params.arguments), CallContext(self.connection.peer, progress))
        return self._session.result(request_id, result)
