"""A call on its way to one device: as it came, where both sides write alike; its progress and its questions on the way back."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec

from edge_mcp.client.client import Client
from edge_mcp.context import Context
from edge_mcp.errors import CallError, ConnectionClosed
from edge_mcp.gateway.asking import question_of
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.protocol.codec import Arguments, Codec
from edge_mcp.protocol.jsonrpc import UNDECODABLE, present
from edge_mcp.protocol.messages import ToolResult
from edge_mcp.protocol.versions import MODERN

MAX_ROUNDS = 8
"""How often a device may ask in one call."""
_KEPT = 64
_ASKED = ("elicitation", "sampling", "roots")
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


class _Asked(msgspec.Struct):
    method: str
    params: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    """What a device answers to a call, left as it is encoded as far as nobody here looks into it."""

    content: msgspec.Raw = msgspec.Raw()
    structuredContent: msgspec.Raw = msgspec.Raw()
    isError: bool = False
    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict)
    resultType: str = "complete"
    inputRequests: dict[str, _Asked] = {}
    requestState: str | None = None


class Passing:
    """One host's call of `tool`, with what its device hears of it: `left_s` of the deadline, inf without."""

    def __init__(self, tool: str, arguments: Arguments, context: Context, left_s: Callable[[], float]) -> None:
        self.tool = tool
        self.arguments = arguments
        self._context = context
        self._left_s = left_s

    async def to(self, upstream: Upstream, progress: "Progress", asks: bool, asked: Callable[[], None]) -> ToolResult:
        """What the device answers; `asked` is called when its user or host is, which `asks` says may be.

        What the result has encoded is in the codec of the arguments. Raises: NotSent, ConnectionClosed, CallError.
        """
        more: dict[str, Any] = {}
        for _ in range(MAX_ROUNDS):
            request = partial(self._request, progress, asks, more)
            answer, codec = await upstream.once(request, self.arguments.codec.name)
            if answer.resultType != "input_required":
                return self._result(answer, codec)
            asked()
            more = {"inputResponses": await self._ask(upstream, answer.inputRequests), "requestState": answer.requestState}
        raise CallError(f"{upstream.name} asks more than {MAX_ROUNDS} times before it answers")

    async def _request(self, progress: "Progress", asks: bool, more: dict[str, Any], client: Client) -> tuple[_Answer, Codec]:
        written, codec = self.arguments, client.codec
        data = written.data or written.codec.empty
        if written.codec.name != codec.name:
            data = codec.encode(written.decode(Any))
        params = {"name": self.tool, "arguments": msgspec.Raw(data), **more}
        modern = client.version in MODERN
        hears = progress if self._context.wants_progress else None
        answer = await client.request("tools/call", params, _Answer, hears, lambda: self._meta(asks and modern))
        return answer, codec

    def _meta(self, asks: bool) -> dict[str, Any]:
        """What the device is told of the call, when it is sent."""
        left_s = self._left_s()
        can = {name: self._context.capabilities[name] for name in _ASKED if self._context.can(name)} if asks else {}
        return {
            **({_CAPABILITIES: can} if can else {}),
            **({} if left_s == float("inf") else {"io.edge-mcp/deadlineMs": max(1, round(left_s * 1000))}),
            **({"io.edge-mcp/background": True} if self._context.background else {}),
        }

    async def _ask(self, upstream: Upstream, asked: dict[str, _Asked]) -> dict[str, dict[str, Any]]:
        """The host's answers. The keys name the device: what was allowed to one is not allowed to another.

        Raises: InputRequired, with which the host's request ends; it comes again with the answers.
        """
        questions = {
            f"{upstream.id}/{key}": question_of(upstream.name, question.method, question.params)
            for key, question in asked.items()
        }
        try:
            answers = await self._context.ask(questions)
        except ConnectionClosed as error:
            raise CallError(f"the host is gone that {upstream.name} asks: {error}") from error
        except KeyError as error:
            raise CallError(f"{upstream.name} asks for {error}, which the gateway does not pass on") from None
        return {key: answers[f"{upstream.id}/{key}"] for key in asked if f"{upstream.id}/{key}" in answers}

    def _result(self, answer: _Answer, codec: Codec) -> ToolResult:
        def passed(raw: msgspec.Raw) -> Any:
            return raw if codec.name == self.arguments.codec.name else codec.decode(raw, Any)

        content: Any = passed(answer.content) if present(answer.content) else []
        if answer.isError and isinstance(content, msgspec.Raw):
            content = codec.decode(content, Any)  # the gateway wants to know why
        return ToolResult(
            content,
            passed(answer.structuredContent) if present(answer.structuredContent) else msgspec.UNSET,
            answer.isError,
            answer.meta or msgspec.UNSET,
        )


class Progress:
    """Within an `async with`, passes on what devices report of one call; of a second attempt only what is more."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told = float("-inf")
        self._waiting: deque[tuple[float, float | None, str]] = deque(maxlen=_KEPT)
        self._task: asyncio.Task[None] | None = None

    def __call__(self, done: float, total: float | None, message: str) -> None:
        """See client.Progress."""
        if done > self._told:
            self._told = done
            self._waiting.append((done, total, message))
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._pass_on())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            if kind is not None:
                self._task.cancel()
            await asyncio.wait([self._task])

    async def _pass_on(self) -> None:
        with suppress(ConnectionClosed):  # the call's own end
            while self._waiting:
                await self._context.progress(*self._waiting.popleft())


def streamed(tool: str, arguments: Arguments, owner: str) -> tuple[str, Arguments] | None:
    """The key of the stream that a call goes on with, and its arguments with that as the name; None where it names none.

    To a device all hosts behind the gateway are one: two that give their streams the same name must not share one.
    """
    if b"stream" not in arguments.data:
        return None
    codec = arguments.codec
    try:
        fields = arguments.decode(dict[str, msgspec.Raw])
        name = codec.decode(fields["stream"], str)
    except (KeyError, *UNDECODABLE):
        return None  # the device says what is wrong with it
    if not name:
        return None
    key = hashlib.blake2b(msgspec.json.encode([owner, tool, name]), digest_size=12).hexdigest()
    fields["stream"] = msgspec.Raw(codec.encode(key))
    return key, Arguments(codec.encode(fields), codec)
