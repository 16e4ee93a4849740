"""What is neither a tool nor a list, asked of one device: its questions go to the host, and its errors too."""

from functools import partial
from typing import Any

from edge_mcp.client.client import Client
from edge_mcp.context import Context, Question
from edge_mcp.errors import CallError, ConnectionClosed, EdgeError, ProtocolError
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.protocol.versions import MODERN

MAX_ROUNDS = 8
"""How often a device may ask before it answers."""
_ASKED = ("elicitation", "sampling", "roots")
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


async def asked(upstream: Upstream, method: str, params: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
    """What the device answers. Raises: EdgeError where it is away; ProtocolError as it has it; InputRequired."""
    if upstream.state != "up":
        raise EdgeError(f"{upstream.name} is {upstream.state}: {upstream.why}", "Try again when it is back")
    more: dict[str, Any] = {}
    try:
        for _ in range(MAX_ROUNDS):
            answer: dict[str, Any] = await upstream.once(partial(_request, method, params, more, context))
            if answer.get("resultType", "complete") != "input_required" or context is None:
                return answer
            more = {
                "inputResponses": await _answers(upstream, answer.get("inputRequests", {}), context),
                "requestState": answer.get("requestState"),
            }
    except ProtocolError:
        raise
    except CallError as error:
        raise ProtocolError(error.code, error.message, error.data) from error
    except ConnectionClosed as error:
        raise EdgeError(f"the connection to {upstream.name} was lost: {error}", "Try again") from error
    raise EdgeError(f"{upstream.name} asks more than {MAX_ROUNDS} times before it answers")


def question_of(device: str, method: str, params: dict[str, Any]) -> Question:
    """A device's question to the host's user, who is told whose it is: the host shows the gateway's name with it."""
    if method == "elicitation/create":
        params = {**params, "message": f"{device} asks: {params.get('message', '')}"}
    return Question(method, params)


async def _request(
    method: str, params: dict[str, Any], more: dict[str, Any], context: Context | None, client: Client
) -> dict[str, Any]:
    can: dict[str, Any] = {}
    if context is not None and client.version in MODERN:
        can = {name: context.capabilities[name] for name in _ASKED if context.can(name)}
    answer: dict[str, Any] = await client.request(
        method, {**params, **more}, dict, meta=lambda: {_CAPABILITIES: can} if can else {}
    )
    return answer


async def _answers(upstream: Upstream, questions: Any, context: Context) -> dict[str, Any]:
    """The host's; the keys name the device: what was allowed to one is not allowed to another."""
    try:
        wanted = {
            f"{upstream.id}/{key}": question_of(upstream.name, question["method"], dict(question.get("params", {})))
            for key, question in questions.items()
        }
        answers = await context.ask(wanted)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EdgeError(f"{upstream.name} asks what the gateway does not pass on: {error}") from None
    return {key: answers[f"{upstream.id}/{key}"] for key in questions if f"{upstream.id}/{key}" in answers}
