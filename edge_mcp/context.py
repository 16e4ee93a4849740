"""What a tool, resource or prompt knows of the call that it answers, and can say or ask meanwhile."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edge_mcp.errors import ProtocolError
from edge_mcp.protocol.jsonrpc import MISSING_CAPABILITY
from edge_mcp.protocol.messages import LOG_LEVELS, LogLevel
from edge_mcp.transports.base import Peer

_NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the user or the language model behind the client: an MCP request from server to client."""

    method: str
    params: dict[str, Any]

    @property
    def capability(self) -> str:
        """What the client must be able to do to answer it."""
        return _NEEDS[self.method]

    def suits(self, capabilities: Mapping[str, Any]) -> bool:
        """Whether a client of these capabilities can answer it; one that names no mode of elicitation knows forms only."""
        declared = capabilities.get(self.capability)
        if self.method != "elicitation/create" or not isinstance(declared, dict) or not declared:
            return declared is not None
        return self.params.get("mode", "form") in declared

    def accepts(self, answer: object) -> bool:
        """Whether this is an answer to the question; what is not is asked again."""
        if not isinstance(answer, dict):
            return False
        match self.method:
            case "elicitation/create":
                content = answer.get("content", {})
                needed = self.params.get("requestedSchema", {}).get("required", ())
                filled = isinstance(content, dict) and all(name in content for name in needed)
                return filled if answer.get("action") == "accept" else answer.get("action") in ("decline", "cancel")
            case "sampling/createMessage":
                return isinstance(answer.get("content"), dict | list)
            case _:
                return isinstance(answer.get("roots"), list)


class InputRequired(BaseException):
    """The call cannot go on without answers to these questions (2026-07-28, Multi Round-Trip Requests).

    No Exception: an `except Exception` around a question must not swallow it, as it does not in the other revisions.
    """

    def __init__(self, questions: Mapping[str, Question]) -> None:
        super().__init__(", ".join(questions))
        self.questions = questions


class Wire(Protocol):
    """How a context reaches the client."""

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Report progress to a client that asked for it."""
        ...

    async def log(self, level: LogLevel, data: Any, logger: str) -> None:
        """Send a log message."""
        ...

    async def hang_up(self, retry_ms: int) -> None:
        """Close the call's stream, which the client takes up again after `retry_ms` (2025-11-25, Streamable HTTP)."""
        ...


Ask = Callable[[Mapping[str, Question]], Awaitable[Mapping[str, dict[str, Any]]]]


class Context:
    """One call. `capabilities` are the client's; `log_level` is the lowest level it wants to hear (None: nothing)."""

    def __init__(self, peer: Peer, capabilities: Mapping[str, Any], log_level: LogLevel | None, wire: Wire, ask: Ask) -> None:
        self.peer = peer
        self.capabilities = capabilities
        self._log_level = log_level
        self._wire = wire
        self._ask = ask
        self.answers: dict[str, dict[str, Any]] = {}
        """What was asked so far, by its key."""
        self.deadline_ms: float | None = None
        """How long the client can use an answer; None: it did not say."""
        self.background = False
        """Whether the call can wait for all others."""
        self.wants_progress = True
        """Whether somebody hears of progress; it may be reported all the same."""

    async def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the call is; `done` must grow. Sent to callers that asked for it only."""
        await self._wire.progress(done, total, message)

    async def log(self, level: LogLevel, data: Any, logger: str = "edge-mcp") -> None:
        """Send a log message (any JSON value) to a client that wants to hear of this level."""
        if self._log_level is not None and LOG_LEVELS.index(level) >= LOG_LEVELS.index(self._log_level):
            await self._wire.log(level, data, logger)

    async def hang_up(self, retry_ms: int = 0) -> None:
        """Close the stream of this call while it goes on; a client of Streamable HTTP 2025-11-25 fetches the answer later."""
        await self._wire.hang_up(retry_ms)

    def can(self, capability: str) -> bool:
        """Whether the client declared a capability, such as `sampling`."""
        return capability in self.capabilities

    def require(self, capability: str) -> None:
        """Raises: ProtocolError (-32021) unless the client declared the capability."""
        if not self.can(capability):
            raise _lacks(capability)

    async def ask(self, questions: Mapping[str, Question]) -> Mapping[str, dict[str, Any]]:
        """The answers to several questions by their key; questions that the client cannot answer are left out.

        In a 2026-07-28 conversation the call ends here with the questions, and begins anew with the answers: what comes
        before must do no harm when done again. Raises: ProtocolError when the client can answer none of them.
        """
        possible = {key: question for key, question in questions.items() if question.suits(self.capabilities)}
        if not possible:
            raise _lacks(next(iter(questions.values())).capability)
        answers = await self._ask(possible)
        self.answers |= answers
        return answers

    async def elicit(self, message: str, schema: Mapping[str, Any], key: str = "input") -> dict[str, Any]:
        """Ask the user to fill in a form: `{"action": "accept" | "decline" | "cancel", "content": {…}}`.

        `schema` is a flat JSON Schema object of primitives. `key` tells apart the questions of one call. Raises as `ask`.
        """
        params = {"mode": "form", "message": message, "requestedSchema": dict(schema)}
        return (await self.ask({key: Question("elicitation/create", params)}))[key]

    async def sample(self, messages: list[dict[str, Any]], max_tokens: int, key: str = "sample", **more: Any) -> dict[str, Any]:
        """Ask the client's language model: a CreateMessageResult. Raises as `ask`."""
        params = {"messages": messages, "maxTokens": max_tokens, **more}
        return (await self.ask({key: Question("sampling/createMessage", params)}))[key]

    async def roots(self, key: str = "roots") -> list[dict[str, Any]]:
        """The client's roots. Raises as `ask`."""
        answer = (await self.ask({key: Question("roots/list", {})}))[key]
        return list(answer.get("roots", []))


def _lacks(capability: str) -> ProtocolError:
    needed: dict[str, Any] = {"requiredCapabilities": {capability: {}}}
    return ProtocolError(MISSING_CAPABILITY, f"the client cannot do what this needs: {capability}", needed)
