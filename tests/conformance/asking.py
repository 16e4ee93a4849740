"""Fixtures that ask the client: as requests (until 2025-11-25), or as results that require input (2026-07-28)."""

import json
from typing import Any

from edge_mcp import Context, Server
from edge_mcp.context import Question

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
COLOR = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
CONFIRM = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": True},
    },
    "required": [],
}


def _titled(*titles: str) -> list[dict[str, str]]:
    return [{"const": f"value{number}", "title": title} for number, title in enumerate(titles, 1)]


ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": _titled("First Option", "Second Option", "Third Option")},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {"type": "array", "items": {"anyOf": _titled("First Choice", "Second Choice", "Third Choice")}},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
    },
    "required": [],
}


def add(server: Server) -> None:
    """Add the fixtures."""
    _plain(server)
    _single(server)
    _several(server)


def text_of(answer: dict[str, Any]) -> str:
    """What a language model said."""
    content = answer.get("content")
    first = content[0] if isinstance(content, list) and content else content
    return str(first.get("text", "")) if isinstance(first, dict) else ""


def said(text: str) -> list[dict[str, Any]]:
    """The messages of a sampling request."""
    return [{"role": "user", "content": {"type": "text", "text": text}}]


def elicitation(message: str, schema: dict[str, Any]) -> Question:
    """A form."""
    return Question("elicitation/create", {"mode": "form", "message": message, "requestedSchema": schema})


def _plain(server: Server) -> None:
    @server.tool()
    async def test_sampling(prompt: str, context: Context) -> str:
        """Asks the client's language model."""
        return f"LLM response: {text_of(await context.sample(said(prompt), 100))}"

    @server.tool()
    async def test_elicitation(message: str, context: Context) -> str:
        """Asks the user."""
        schema = {
            "type": "object",
            "properties": {
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            },
            "required": ["username", "email"],
        }
        answer = await context.elicit(message, schema)
        return f"User response: action={answer['action']}, content={json.dumps(answer.get('content', {}))}"

    @server.tool()
    async def test_elicitation_sep1034_defaults(context: Context) -> str:
        """Asks with defaults."""
        answer = await context.elicit("Please review and update the form fields with defaults", DEFAULTS)
        return f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content', {}))}"

    @server.tool()
    async def test_elicitation_sep1330_enums(context: Context) -> str:
        """Asks with enumerations."""
        answer = await context.elicit("Please select options from the enum fields", ENUMS)
        return f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content', {}))}"


def _single(server: Server) -> None:
    @server.tool()
    async def test_input_required_result_elicitation(context: Context) -> str:
        """Asks for a name."""
        answer = await context.elicit("What is your name?", NAME, key="user_name")
        return f"Hello, {answer.get('content', {}).get('name', 'stranger')}!"

    @server.tool()
    async def test_input_required_result_sampling(context: Context) -> str:
        """Asks the client's language model."""
        return text_of(await context.sample(said("What is the capital of France?"), 100, key="capital_question"))

    @server.tool()
    async def test_input_required_result_list_roots(context: Context) -> str:
        """Asks for the client's roots."""
        roots = await context.roots(key="client_roots")
        return f"Roots: {', '.join(str(root.get('uri')) for root in roots)}"

    @server.tool()
    async def test_input_required_result_request_state(context: Context) -> str:
        """Asks for a confirmation."""
        await context.elicit("Please confirm", CONFIRM, key="confirm")
        return "state-ok"

    @server.tool()
    async def test_input_required_result_tampered_state(context: Context) -> str:
        """Asks for a confirmation, and does not take a state that was changed."""
        await context.elicit("Please confirm", CONFIRM, key="confirm")
        return "The state is the one that was given out."

    @server.prompt()
    async def test_input_required_result_prompt(context: Context) -> str:
        """Asks for its context."""
        schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
        answer = await context.elicit("What context should the prompt use?", schema, key="user_context")
        return f"Use the following context: {answer.get('content', {}).get('context', '')}"


def _several(server: Server) -> None:
    @server.tool()
    async def test_input_required_result_multiple_inputs(context: Context) -> str:
        """Asks three things at once."""
        questions = {
            "user_name": elicitation("What is your name?", NAME),
            "greeting": Question("sampling/createMessage", {"messages": said("Generate a greeting"), "maxTokens": 50}),
            "client_roots": Question("roots/list", {}),
        }
        answers = await context.ask(questions)
        return f"Got {', '.join(sorted(answers))}"

    @server.tool()
    async def test_input_required_result_multi_round(context: Context) -> str:
        """Asks one thing after the other."""
        name = (await context.elicit("Step 1: What is your name?", NAME, key="step1")).get("content", {}).get("name")
        color = await context.elicit("Step 2: What is your favorite color?", COLOR, key="step2")
        return f"{name} likes {color.get('content', {}).get('color')}"

    @server.tool()
    async def test_input_required_result_capabilities(context: Context) -> str:
        """Asks what the client can answer, and nothing else."""
        questions = {
            "user_name": elicitation("What is your name?", NAME),
            "greeting": Question("sampling/createMessage", {"messages": said("Generate a greeting"), "maxTokens": 50}),
        }
        return f"Got {', '.join(sorted(await context.ask(questions)))}"
