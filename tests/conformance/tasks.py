"""Fixtures of the extension io.modelcontextprotocol/tasks."""

import asyncio
from typing import Any

from edge_mcp import Context, Server
from edge_mcp.errors import ProtocolError
from tests.conformance.asking import NAME, elicitation

CONFIRM = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}


async def moment(seconds: float) -> None:
    """What a real tool would need to work."""
    await asyncio.sleep(seconds)


def add(server: Server) -> None:
    """Add the fixtures."""

    @server.tool()
    def greet(name: str) -> str:
        """Greets at once."""
        return f"Hello, {name}!"

    @server.tool(task="optional")
    async def slow_compute(seconds: float = 0, label: str = "task") -> str:
        """Takes some seconds."""
        await moment(seconds)
        return f"{label} done after {seconds:g} s"

    @server.tool(task="required")
    async def failing_job() -> str:
        """Fails after a second."""
        await moment(1)
        raise ValueError("This job always fails")

    @server.tool(task="optional")
    async def protocol_error_job() -> str:
        """Fails as the protocol fails."""
        await moment(0.05)
        raise ProtocolError(-32603, "This job fails as a request")

    @server.tool(task="optional")
    async def confirm_delete(filename: str, context: Context) -> str:
        """Asks before it deletes (nothing, in truth)."""
        answer = await context.elicit(f"Delete {filename}?", CONFIRM, key="confirm")
        agreed = answer["action"] == "accept" and answer["content"]["confirm"]
        return f"Deleted {filename}" if agreed else f"Kept {filename}"

    @server.tool(task="optional")
    async def multi_input(context: Context) -> str:
        """Asks two things at once."""
        answers = await context.ask({"first": elicitation("What is your name?", NAME), "second": elicitation("Sure?", CONFIRM)})
        return f"Got {', '.join(sorted(answers))}"

    async def ask_name(context: Context) -> dict[str, Any]:
        return await context.elicit("What is your name?", NAME, key="user_name")

    @server.tool(task="required", before=ask_name)
    async def test_tool_with_task(context: Context) -> str:
        """Asks for a name, then works as a task."""
        answer = await ask_name(context)
        await moment(0.1)
        return f"Worked for {answer.get('content', {}).get('name')}"
