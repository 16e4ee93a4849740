"""Serves MCP on connections: what each method does. Knows no transport and no runtime."""

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from edge_mcp.changes import Changes
from edge_mcp.context import Context, InputRequired, Question
from edge_mcp.conversation import Conversation
from edge_mcp.errors import BusyError, EdgeError, EngineError, ProtocolError
from edge_mcp.measurements import Measurements
from edge_mcp.prompts.base import Prompts
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.codec import Arguments, Codec, codec_of
from edge_mcp.protocol.messages import (
    AskingParams,
    CallParams,
    CancelTaskParams,
    CompleteParams,
    GetTaskParams,
    Implementation,
    ListenParams,
    ListParams,
    ListPromptsParams,
    ListResourcesParams,
    ListTemplatesParams,
    ListToolsParams,
    Params,
    PromptParams,
    ReadParams,
    SubscribeParams,
    TaskParams,
    ToolResult,
    UnsubscribeParams,
    UpdateTaskParams,
)
from edge_mcp.protocol.methods import TASKS
from edge_mcp.protocol.request_state import Sealer
from edge_mcp.protocol.session import About, Request, Session
from edge_mcp.resources.base import Resources
from edge_mcp.tasks import Task, Tasks, TaskWire
from edge_mcp.tools.base import Catalogue, Tool
from edge_mcp.transports.base import Connection

PAGE = 200
MAX_COMPLETIONS = 100
RETRY_MS = 1000
"""When to call a server again that is stopping."""
CLOSE_S = 1.0
"""How long peers have to say good-bye, all together."""

Answer = dict[str, Any] | ToolResult
T = TypeVar("T")


class Server:
    """All connections' server. `changes` is where to tell what changed; `drain` ends it."""

    def __init__(
        self,
        info: Implementation,
        tools: Catalogue,
        resources: Resources | None = None,
        prompts: Prompts | None = None,
        instructions: str = "",
        page: int = PAGE,
        clock: Callable[[], float] = time.monotonic,
        measured: Measurements | None = None,
    ) -> None:
        self._measured = measured or Measurements()
        self.changes = Changes()
        self.draining = False
        self._tools = tools
        self._resources = resources
        self._prompts = prompts
        self._tasks = Tasks(self.changes)
        self._sealer = Sealer(clock)
        self._page = page
        self._live: set[Conversation] = set()
        self._left = float("-inf")
        capabilities: dict[str, Any] = {"tools": {"listChanged": True}, "logging": {}}
        if resources is not None:
            capabilities["resources"] = {"subscribe": True, "listChanged": True}
        if prompts is not None:
            capabilities["prompts"] = {"listChanged": True}
        if resources is not None or prompts is not None:
            capabilities["completions"] = {}
        self.about = About(info, capabilities, instructions, (TASKS,))
        self._handlers: dict[type[Params], Callable[[Conversation, Request, Any], Awaitable[Answer]]] = {
            ListToolsParams: self._list_tools,
            CallParams: self._call,
            ListResourcesParams: self._list_resources,
            ListTemplatesParams: self._list_templates,
            ReadParams: self._read,
            SubscribeParams: self._subscribe,
            UnsubscribeParams: self._unsubscribe,
            ListPromptsParams: self._list_prompts,
            PromptParams: self._get_prompt,
            CompleteParams: self._complete,
            ListenParams: self._listen,
            GetTaskParams: self._get_task,
            UpdateTaskParams: self._update_task,
            CancelTaskParams: self._cancel_task,
        }

    async def serve(self, connection: Connection, version: str | None = None) -> None:
        """Serve one connection until its peer ends it. What is in flight then is answered if the peer still listens.

        `version`: the legacy revision that is agreed on already, on a transport without conversations.
        """
        session = Session(self.about, version, codec_of(connection.encoding))
        conversation = Conversation(connection, session, self._handle, self.changes)
        self._live.add(conversation)
        try:
            await conversation.run()
        finally:
            self._live.discard(conversation)
            self._left = asyncio.get_running_loop().time()

    async def input_schema(self, tool: str) -> Mapping[str, Any] | None:
        """The schema of a tool's arguments: a transport may have to know which of them travel outside the message."""
        known = (await self._tools.tools()).get(tool)
        return known.definition.inputSchema if known else None

    async def drain(self, seconds: float) -> None:
        """Let calls in flight finish for at most `seconds`, then end every connection and task."""
        self.draining = True
        calls: list[asyncio.Future[Any]] = [call for conversation in self._live for call in conversation.calls.values()]
        # Together, and within the time: a peer that does not read would hold up all others.
        ending = asyncio.gather(*(conversation.end_subscriptions() for conversation in self._live), return_exceptions=True)
        await asyncio.wait([ending, *calls], timeout=seconds)
        ending.cancel()
        closing = asyncio.gather(
            *(conversation.connection.close("the server is stopping") for conversation in self._live), return_exceptions=True
        )
        await asyncio.wait([closing], timeout=CLOSE_S)
        closing.cancel()
        await self._tasks.close()

    @property
    def connections(self) -> int:
        """Conversations that are open."""
        return len(self._live)

    async def quiet(self, seconds: float) -> None:
        """Wait until nobody has been connected for so long, from now on, and no task is kept for anybody."""
        loop = asyncio.get_running_loop()
        left = seconds
        while left > 0:
            await asyncio.sleep(left)
            left = seconds if self._live or self._tasks else self._left + seconds - loop.time()

    async def _handle(self, conversation: Conversation, request: Request) -> Answer:
        handler = self._handlers[type(request.params)]
        return await handler(conversation, request, request.params)

    # Tools

    async def _list_tools(self, _conversation: Conversation, _request: Request, params: ListParams) -> Answer:
        tools = await self._tools.tools()
        return self._paged("tools", [tool.definition for tool in tools.values()], params)

    async def _call(self, conversation: Conversation, request: Request, params: CallParams) -> Answer:
        if self.draining:
            stopping = BusyError("the server is stopping", "Call again when it is back", RETRY_MS, "stopping")
            return ToolResult.failed(str(stopping), _retry(stopping))
        tools = await self._tools.tools()
        tool = tools.get(params.name)
        if tool is None:
            known = ", ".join(tools) or "none"
            message = f"unknown tool: {params.name[:100]!r}. This server has: {known}"
            raise ProtocolError(jsonrpc.INVALID_PARAMS, message)
        arguments = Arguments(bytes(params.arguments), conversation.session.codec)
        use = tool.task_use(arguments) if conversation.session.modern else "never"
        if use == "never" or (use == "optional" and not _follows_tasks(params)):
            return await self._asking(
                conversation, request, params, params.name, arguments.data, partial(self._outcome, tool, arguments)
            )
        _require_tasks(params)
        begin = partial(self._begin, tool, arguments)
        return await self._asking(conversation, request, params, params.name, arguments.data, begin)

    async def _begin(self, tool: Tool, arguments: Arguments, early: Context) -> Answer:
        """Run a tool as a task, once the questions that come before it are answered."""
        try:
            await tool.prepare(arguments, early)
        except ProtocolError:
            raise
        except EdgeError as error:
            return ToolResult.failed(str(error))  # as without a task

        async def work(task: Task) -> Mapping[str, Any]:
            context = Context(early.peer, early.capabilities, None, TaskWire(task), partial(task.ask, early.answers))
            context.deadline_ms, context.background = early.deadline_ms, early.background
            result = await self._outcome(tool, arguments, context)
            return {name: _decoded(field, arguments.codec) for name, field in result.fields().items()}

        task = self._tasks.begin(early.peer.principal, work)
        return {**task.state(), "resultType": "task"}

    async def _outcome(self, tool: Tool, arguments: Arguments, context: Context) -> ToolResult:
        """A tool's result; what it refuses is a result too, which the language model sees (SEP-1303)."""
        try:
            result = await tool.call(arguments, context)
        except ProtocolError:
            raise
        except EdgeError as error:
            result = ToolResult.failed(str(error), _retry(error))
        self._measured.called(result.isError)
        return result

    # Resources

    async def _list_resources(self, _conversation: Conversation, _request: Request, params: ListParams) -> Answer:
        return self._paged("resources", await self._own(self._resources).resources(), params)

    async def _list_templates(self, _conversation: Conversation, _request: Request, params: ListParams) -> Answer:
        return self._paged("resourceTemplates", await self._own(self._resources).templates(), params)

    async def _read(self, conversation: Conversation, request: Request, params: ReadParams) -> Answer:
        async def read(context: Context) -> Answer:
            contents = await self._own(self._resources).read(params.uri, context)
            if contents is None:
                code = jsonrpc.INVALID_PARAMS if conversation.session.modern else jsonrpc.RESOURCE_NOT_FOUND
                raise ProtocolError(code, f"there is no resource {params.uri[:200]}", {"uri": params.uri[:1000]})
            fresh = {"ttlMs": 0, "cacheScope": "private"} if conversation.session.modern else {}
            return {"contents": contents, **fresh}

        return await self._asking(conversation, request, params, params.uri, b"", read)

    async def _subscribe(self, conversation: Conversation, _request: Request, params: SubscribeParams) -> Answer:
        conversation.subscribe(params.uri)
        return {}

    async def _unsubscribe(self, conversation: Conversation, _request: Request, params: UnsubscribeParams) -> Answer:
        conversation.unsubscribe(params.uri)
        return {}

    # Prompts and completion

    async def _list_prompts(self, _conversation: Conversation, _request: Request, params: ListParams) -> Answer:
        return self._paged("prompts", await self._own(self._prompts).prompts(), params)

    async def _get_prompt(self, conversation: Conversation, request: Request, params: PromptParams) -> Answer:
        prompts = await self._own(self._prompts).prompts()
        definition = next((prompt for prompt in prompts if prompt.name == params.name), None)
        if definition is None:
            known = ", ".join(prompt.name for prompt in prompts)
            raise ProtocolError(jsonrpc.INVALID_PARAMS, f"unknown prompt: {params.name[:100]!r}. This server has: {known}")
        missing = [
            argument.name for argument in definition.arguments if argument.required and argument.name not in params.arguments
        ]
        if missing:
            raise ProtocolError(jsonrpc.INVALID_PARAMS, f"the prompt {params.name} needs {', '.join(missing)}")

        async def get(context: Context) -> Answer:
            messages = await self._own(self._prompts).get(params.name, params.arguments, context)
            return {"description": definition.description, "messages": messages or []}

        return await self._asking(conversation, request, params, params.name, msgspec.json.encode(params.arguments), get)

    async def _complete(self, _conversation: Conversation, _request: Request, params: CompleteParams) -> Answer:
        argument, known = params.argument, params.context.arguments
        if params.ref.type == "ref/prompt":
            values = await self._own(self._prompts).complete(params.ref.name, argument.name, argument.value, known)
        else:
            values = await self._own(self._resources).complete(params.ref.uri, argument.name, argument.value, known)
        shown = list(values)[:MAX_COMPLETIONS]
        return {"completion": {"values": shown, "total": len(values), "hasMore": len(values) > len(shown)}}

    # Subscriptions and tasks

    async def _listen(self, conversation: Conversation, request: Request, params: ListenParams) -> Answer:
        wanted = params.notifications
        wanted.taskIds = self._tasks.owned(wanted.taskIds, conversation.connection.peer.principal)
        await conversation.listen(request, wanted)
        return {}

    async def _get_task(self, conversation: Conversation, _request: Request, params: GetTaskParams) -> Answer:
        return self._task(conversation, params).state()

    async def _update_task(self, conversation: Conversation, _request: Request, params: UpdateTaskParams) -> Answer:
        self._task(conversation, params).answer(conversation.session.codec.plain(params.inputResponses))
        return {}

    async def _cancel_task(self, conversation: Conversation, _request: Request, params: CancelTaskParams) -> Answer:
        self._task(conversation, params).cancel()
        return {}

    def _task(self, conversation: Conversation, params: TaskParams) -> Task:
        _require_tasks(params)
        return self._tasks.get(params.taskId, conversation.connection.peer.principal)

    # Common

    async def _asking(
        self,
        conversation: Conversation,
        request: Request,
        params: AskingParams,
        name: str,
        arguments: bytes,
        work: Callable[[Context], Awaitable[Answer]],
    ) -> Answer:
        """Do `work`, whose questions reach a legacy client as requests, and a modern one as the result `input_required`."""
        if not conversation.session.modern:
            return await work(conversation.context(request))
        principal = conversation.connection.peer.principal

        def binding() -> str:  # not made for nothing: a photo takes a while
            return hashlib.sha256(msgspec.json.encode([type(params).__name__, name, principal]) + arguments).hexdigest()

        answers = self._sealer.unseal(binding(), params.requestState) if params.requestState is not None else {}
        answers |= conversation.session.codec.plain(params.inputResponses)

        async def ask(questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
            if missing := {key: asked for key, asked in questions.items() if not asked.accepts(answers.get(key))}:
                raise InputRequired(missing)
            return {key: answers[key] for key in questions}

        try:
            return await work(conversation.context(request, ask))
        except InputRequired as required:
            asked = {
                key: {"method": question.method, "params": question.params} for key, question in required.questions.items()
            }
            return {
                "resultType": "input_required",
                "inputRequests": asked,
                "requestState": self._sealer.seal(binding(), answers),
            }

    def _paged(self, name: str, items: Sequence[Any], params: ListParams) -> Answer:
        """One page of a list. Raises: ProtocolError for a cursor that this server did not give out."""
        start = _position(params.cursor) if params.cursor is not None else 0
        if params.cursor is not None and not 0 < start < len(items):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "unknown cursor. List again from the beginning")
        end = start + self._page
        more = {"nextCursor": base64.urlsafe_b64encode(str(end).encode()).decode()} if end < len(items) else {}
        return {name: list(items[start:end]), **more}

    def _own(self, feature: T | None) -> T:
        assert feature is not None, "the session lets no method through that the server has no capability for"  # noqa: S101
        return feature


def _follows_tasks(params: Params) -> bool:
    declared = params.meta.capabilities
    extensions = declared.get("extensions") if isinstance(declared, dict) else None
    return isinstance(extensions, dict) and TASKS in extensions


def _require_tasks(params: Params) -> None:
    if not _follows_tasks(params):
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        raise ProtocolError(jsonrpc.MISSING_CAPABILITY, "this needs a client that can follow tasks", needed)


def _decoded(field: Any, codec: Codec) -> Any:
    """A part of a task's result, which may be fetched by a client of another encoding than the one that began the task."""
    return codec.decode(field, Any) if isinstance(field, msgspec.Raw) else field


def _position(cursor: str) -> int:
    try:
        return int(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise ProtocolError(jsonrpc.INVALID_PARAMS, "unknown cursor. List again from the beginning") from None


def _retry(error: EdgeError) -> Any:
    """When a call that was not taken may be repeated, for programs; the words say it too."""
    if not isinstance(error, BusyError | EngineError) or error.retry_after_ms is None:
        return msgspec.UNSET
    told: dict[str, Any] = {"retryAfterMs": error.retry_after_ms}
    if isinstance(error, BusyError):
        told["reason"] = error.reason
    return {"io.edge-mcp/retry": told}
