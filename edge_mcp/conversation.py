"""One connection being served: its session, its calls in flight, and what it wants to hear of."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from edge_mcp.changes import Change, Changes
from edge_mcp.context import Ask, Context, Question
from edge_mcp.errors import ConnectionClosed, EdgeError, ProtocolError
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import RequestId
from edge_mcp.protocol.messages import Filter, KeepAliveWish, ListenParams, LogLevel, Params, ToolResult
from edge_mcp.protocol.session import Answer, Cancelled, Event, Request, Response, Session
from edge_mcp.transports.base import Connection, Frame, Kept, Pulse

logger = logging.getLogger(__name__)

MAX_CALLS = 128
MAX_WAITING = 1024
PAUSE_S = 5.0
MAX_CALL_BYTES = 64 * 1024 * 1024
MAX_SUBSCRIPTIONS = 256
MAX_QUESTIONS = 64
_PULSE = b"notifications/io.edge-mcp/keepalive"

Handle = Callable[["Conversation", Request], Awaitable[dict[str, Any] | ToolResult]]


class Conversation:
    """Serves one connection; `handle` answers its requests.

    `MAX_CALLS` calls run at once, and `MAX_WAITING` (or `MAX_CALL_BYTES` of messages) may be in flight. A request beyond that
    waits up to `PAUSE_S` for room, and is refused if there is none: whatever calls do, the peer is read on, and so what it
    cancels and that it left is seen.
    """

    def __init__(self, connection: Connection, session: Session, handle: Handle, changes: Changes) -> None:
        self.connection = connection
        self.session = session
        self.calls: dict[RequestId, asyncio.Task[None]] = {}
        self.subscribed: set[str] = set()
        self._handle = handle
        self._changes = changes
        self._listening: dict[RequestId, Filter] = {}
        self._answers: dict[RequestId, asyncio.Future[Response]] = {}
        self._telling: dict[bytes, asyncio.Task[None]] = {}
        self._running = asyncio.Semaphore(MAX_CALLS)
        self._bytes = 0
        self._room = asyncio.Event()
        if isinstance(connection, Kept):
            session.keepalive = partial(self._keep, connection.pulse)

    async def run(self) -> None:
        """Serve until the peer is done."""
        unlisten = self._changes.listen(self._on_change)
        try:
            async for frame in self.connection:
                for event in self.session.receive(frame):
                    await self._on_event(event, frame)
            if self.connection.half_close:
                await self.end_subscriptions()
                await asyncio.gather(*self.calls.values(), return_exceptions=True)
        except ConnectionClosed as error:
            logger.debug("%s: %s", self.connection.peer.address, error)
        finally:
            unlisten()
            self._changes.leave(self.subscribed)
            for task in [*self.calls.values(), *self._telling.values()]:
                task.cancel()

    async def send(self, frame: bytes, about: RequestId | None = None, last: bool = False) -> None:
        """See Connection.send."""
        await self.connection.send(frame, about, last)

    async def listen(self, request: Request, wanted: Filter) -> None:
        """Tell of `wanted` changes until cancelled, or until the server stops."""
        if len(self._listening) >= MAX_SUBSCRIPTIONS:
            raise ProtocolError(
                jsonrpc.INVALID_PARAMS, f"{MAX_SUBSCRIPTIONS} subscriptions are open on this connection already"
            )
        acknowledged = self.session.notification(
            "notifications/subscriptions/acknowledged", {"notifications": wanted}, request.id
        )
        await self.send(acknowledged, request.id)
        self._listening[request.id] = wanted
        self._changes.want(wanted.resourceSubscriptions)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            del self._listening[request.id]
            self._changes.leave(wanted.resourceSubscriptions)

    def subscribe(self, uri: str) -> None:
        """Tell a legacy client when a resource changes. Raises: ProtocolError."""
        if len(self.subscribed) >= MAX_SUBSCRIPTIONS:
            raise ProtocolError(jsonrpc.INVALID_PARAMS, f"{MAX_SUBSCRIPTIONS} resources are subscribed to already")
        if uri not in self.subscribed:
            self.subscribed.add(uri)
            self._changes.want([uri])

    def unsubscribe(self, uri: str) -> None:
        """Tell it no more."""
        if uri in self.subscribed:
            self.subscribed.remove(uri)
            self._changes.leave([uri])

    async def end_subscriptions(self) -> None:
        """End every open `subscriptions/listen` in good order."""
        for request_id in list(self._listening):
            frame = self.session.listened(request_id)
            if frame is not None:
                await self.send(frame, request_id, last=True)
            if task := self.calls.get(request_id):
                task.cancel()

    def context(self, request: Request, ask: Ask | None = None) -> Context:
        """What the handler of `request` gets; `ask` is how its questions reach the client (default: as requests)."""
        meta = request.params.meta
        modern = self.session.modern
        capabilities = meta.capabilities if modern and isinstance(meta.capabilities, dict) else self.session.capabilities
        level: LogLevel | None = meta.log_level if modern else self.session.log_level
        wire = _CallWire(self, request)
        context = Context(self.connection.peer, capabilities, level, wire, ask or partial(self._ask, request.id))
        context.deadline_ms, context.background = meta.deadline_ms, meta.background
        context.wants_progress = meta.progress_token is not None
        return context

    async def _ask(self, about: RequestId, questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
        """Put questions to a legacy client as requests of the server's, on the stream of the call that has them."""
        if len(self._answers) + len(questions) > MAX_QUESTIONS:
            raise EdgeError(f"{MAX_QUESTIONS} questions to this client are open already", "Call again when some are answered")
        asked: dict[str, RequestId] = {}
        try:
            for key, question in questions.items():
                asked[key], frame = self.session.call(question.method, question.params)
                self._answers[asked[key]] = asyncio.get_running_loop().create_future()
                await self.send(frame, about)
            futures = [self._answers[request_id] for request_id in asked.values()]
            await asyncio.wait(futures)
        finally:
            waiting = [request_id for request_id in asked.values() if not self._answers.pop(request_id).done()]
            with suppress(ConnectionClosed):
                for request_id in waiting:
                    await self.send(self.session.withdraw(request_id), about)
        return {key: _answered(questions[key], future.result()) for key, future in zip(asked, futures, strict=True)}

    async def _on_event(self, event: Event, frame: Frame) -> None:
        match event:
            case Answer():
                await self.send(event.frame, event.id, last=True)
            case Request():
                await self._begin(event, len(frame) if isinstance(frame, bytes) else 0)
            case Cancelled():
                if task := self.calls.get(event.id):
                    task.cancel()
                if event.frame is not None:
                    await self.send(event.frame, event.id, last=True)
            case Response():
                if waiting := self._answers.get(event.id):
                    waiting.set_result(event)

    async def _begin(self, request: Request, size: int) -> None:
        if not await self._room_for(size):
            words = (
                f"too many requests are in flight on this connection ({len(self.calls)}). Wait for answers, then send it again"
            )
            if (frame := self.session.error(request.id, jsonrpc.INTERNAL_ERROR, words)) is not None:
                await self.send(frame, request.id, last=True)
            return
        task = _begun(self._answer(request))
        if task.done():
            return
        self.calls[request.id] = task
        self._bytes += size

        def ended(_task: "asyncio.Task[None]") -> None:
            if self.calls.get(request.id) is task:
                del self.calls[request.id]
            self._bytes -= size
            self._room.set()

        task.add_done_callback(ended)

    async def _room_for(self, size: int) -> bool:
        """Wait until one more request may be in flight; False when that takes too long."""
        if not self._is_full(size):
            return True
        try:
            async with asyncio.timeout(PAUSE_S):
                while self._is_full(size):
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return False
        return True

    def _is_full(self, size: int) -> bool:
        calls = len(self.calls) - len(self._listening)
        return calls >= MAX_WAITING or (calls > 0 and self._bytes + size > MAX_CALL_BYTES)

    async def _answer(self, request: Request) -> None:
        try:
            if isinstance(request.params, ListenParams):
                frame = await self._frame(request)
            else:
                waits, came, meta = self._running.locked(), asyncio.get_running_loop().time(), request.params.meta
                async with self._running:
                    if waits and meta.deadline_ms is not None:
                        meta.deadline_ms -= 1000 * (asyncio.get_running_loop().time() - came)
                    frame = await self._frame(request)
            if frame is not None:
                await self.send(frame, request.id, last=True)
        except ConnectionClosed as error:
            logger.debug("%s: an answer is lost: %s", self.connection.peer.address, error)

    async def _frame(self, request: Request) -> bytes | None:
        """The frame that answers `request`; None when nobody wants it any more."""
        try:
            return self.session.result(request.id, await self._handle(self, request))
        except ProtocolError as error:
            data = {} if error.data is None else {"data": error.data}
            return self.session.error(request.id, error.code, error.message, **data)
        except EdgeError as error:
            return self.session.error(request.id, error.code, str(error))
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # this call was cancelled, and not something that it waited for
            logger.exception("a request failed unexpectedly")
            return self.session.error(request.id, jsonrpc.INTERNAL_ERROR, "internal error")

    def _keep(self, pulse: Pulse, wish: KeepAliveWish | None) -> dict[str, Any]:
        """What the client is told of its connection's keep-alive; who asked is told of changes too."""
        if wish is not None:
            pulse.changed = partial(self._tell_pulse, pulse)
            if wish.intervalMs is not None:
                pulse.wish(wish.intervalMs / 1000)
        return pulse.announce()

    def _tell_pulse(self, pulse: Pulse) -> None:
        if _PULSE not in self._telling:
            frame = self.session.notification(_PULSE.decode(), pulse.announce())
            task = self._telling[_PULSE] = asyncio.create_task(self._tell(frame, None))
            task.add_done_callback(lambda _task: self._telling.pop(_PULSE, None))

    def _on_change(self, change: Change) -> None:
        """Tell the client, if it wants to hear of it: at most one such message is on its way at a time."""
        for frame, about in self._told(change):
            if frame not in self._telling:
                task = self._telling[frame] = asyncio.create_task(self._tell(frame, about))
                task.add_done_callback(lambda _task, frame=frame: self._telling.pop(frame, None))  # type: ignore[misc]

    def _told(self, change: Change) -> list[tuple[bytes, RequestId | None]]:
        params: dict[str, Any] = {"uri": change.uri} if change.uri else dict(change.task or {})
        if self.session.modern:
            return [
                (self.session.notification(change.method, params, request_id), request_id)
                for request_id, wanted in self._listening.items()
                if _wants(wanted, change)
            ]
        wanted = change.task is None and (not change.uri or change.uri in self.subscribed)
        return [(self.session.notification(change.method, params), None)] if wanted and self.session.version else []

    async def _tell(self, frame: bytes, about: RequestId | None) -> None:
        try:
            await self.send(frame, about)
        except ConnectionClosed as error:
            logger.debug("%s: %s", self.connection.peer.address, error)


class _CallWire:
    """See context.Wire."""

    def __init__(self, conversation: Conversation, request: Request) -> None:
        self._conversation = conversation
        self._id = request.id
        self._params: Params = request.params

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """See Wire."""
        if (token := self._params.meta.progress_token) is not None:
            frame = self._conversation.session.progress(token, done, total, message)
            await self._conversation.send(frame, self._id)

    async def log(self, level: LogLevel, data: Any, logger: str) -> None:
        """See Wire."""
        params = {"level": level, "logger": logger, "data": data}
        await self._conversation.send(self._conversation.session.notification("notifications/message", params), self._id)

    async def hang_up(self, retry_ms: int) -> None:
        """See Wire."""
        await self._conversation.connection.hang_up(self._id, retry_ms)


def _begun(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """A task that has run up to where it first waits: a turn of the loop less for each call, where Python can (3.12)."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.create_task(work)


def _answered(question: Question, response: Response) -> dict[str, Any]:
    """The client's answer. Raises: EdgeError when it is none."""
    if response.result is None:
        said = response.error.message[:200] if response.error else "nothing"
        raise EdgeError(f"the client could not answer {question.method}: {said}")
    if not question.accepts(response.result):
        raise EdgeError(f"the client's answer to {question.method} is not one")
    return response.result


def _wants(wanted: Filter, change: Change) -> bool:
    match change.method:
        case "notifications/tools/list_changed":
            return wanted.toolsListChanged
        case "notifications/prompts/list_changed":
            return wanted.promptsListChanged
        case "notifications/resources/list_changed":
            return wanted.resourcesListChanged
        case "notifications/resources/updated":
            return change.uri in wanted.resourceSubscriptions
        case _:
            return change.task is not None and change.task["taskId"] in wanted.taskIds
