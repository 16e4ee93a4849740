"""Fixtures that answer by themselves: content, logging, progress, resources, prompts."""

import base64
import json
from typing import Annotated, Any

import msgspec

from edge_mcp import Audio, Context, EmbeddedResource, Image, PromptMessage, ResourceLink, Server
from tests.conformance.tasks import moment

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")
WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA==")
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
REGION = {
    "type": "object",
    "properties": {"region": {"type": "string", "description": "Where to run.", "x-mcp-header": "Region"}},
    "required": ["region"],
    "additionalProperties": False,
}


def add(server: Server) -> None:
    """Add the fixtures."""
    _content(server)
    _behaviour(server)
    _diagnostics(server)
    _resources(server)
    _prompts(server)


def _content(server: Server) -> None:
    @server.tool()
    def test_simple_text() -> str:
        """Answers a text."""
        return "This is a simple text response for testing."

    @server.tool()
    def test_image_content() -> Image:
        """Answers a picture."""
        return Image(PNG)

    @server.tool()
    def test_audio_content() -> Audio:
        """Answers a sound."""
        return Audio(WAV)

    @server.tool()
    def test_embedded_resource() -> EmbeddedResource:
        """Answers a resource with its content."""
        return EmbeddedResource("test://embedded-resource", "This is an embedded resource content.", "text/plain")

    @server.tool()
    def test_resource_link() -> ResourceLink:
        """Answers a link to a resource."""
        return ResourceLink("test://static-text", "static-text", mime_type="text/plain")

    @server.tool()
    def test_multiple_content_types() -> list[Any]:
        """Answers a text, a picture and a resource."""
        data = json.dumps({"test": "data", "value": 123})
        mixed = EmbeddedResource("test://mixed-content-resource", data, "application/json")
        return ["Multiple content types test:", Image(PNG), mixed]

    @server.tool()
    def test_error_handling() -> str:
        """Always fails."""
        raise ValueError("This tool intentionally returns an error for testing")

    @server.tool(input_schema=SCHEMA)
    def json_schema_2020_12_tool(**arguments: Any) -> str:
        """Has a schema with everything of JSON Schema 2020-12."""
        return f"JSON Schema 2020-12 tool called with: {json.dumps(arguments, sort_keys=True)}"

    @server.tool(input_schema=REGION)
    def test_x_mcp_header(region: str) -> str:
        """Has an argument that travels in a header too."""
        return f"Region: {region}"


def _behaviour(server: Server) -> None:
    @server.tool()
    async def test_tool_with_logging(context: Context) -> str:
        """Logs three messages."""
        await context.log("info", "Tool execution started")
        await moment(0.05)
        await context.log("info", "Tool processing data")
        await moment(0.05)
        await context.log("info", "Tool execution completed")
        return "Tool with logging executed successfully"

    @server.tool()
    async def test_tool_with_progress(context: Context) -> str:
        """Reports progress three times."""
        for done in (0, 50, 100):
            await context.progress(done, 100, f"Completed step {done} of 100")
            if done < 100:
                await moment(0.05)
        return "Tool with progress executed successfully"

    @server.tool()
    async def test_reconnection(context: Context) -> str:
        """Closes the stream of its call before it answers."""
        await context.hang_up(retry_ms=100)
        await moment(0.2)
        return "Reconnection test completed successfully"


def _diagnostics(server: Server) -> None:
    @server.tool()
    def test_missing_capability(context: Context) -> str:
        """Needs a client that can sample."""
        context.require("sampling")
        return "The client can sample."

    @server.tool()
    def test_streaming_elicitation() -> str:
        """Asks nothing: a request to the client has no place on a stream of 2026-07-28."""
        return "Nothing was asked."

    @server.tool()
    async def test_logging_tool(context: Context) -> str:
        """Logs a message, which only a client that asked for log messages gets."""
        await context.log("info", "Logged by test_logging_tool")
        return "Logged."

    @server.tool()
    def test_trigger_tool_change() -> str:
        """Changes the list of tools."""
        server.changed("tools")
        return "The list of tools changed."

    @server.tool()
    def test_trigger_prompt_change() -> str:
        """Changes the list of prompts."""
        server.changed("prompts")
        return "The list of prompts changed."


def _resources(server: Server) -> None:
    @server.resource("test://static-text", name="static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """A picture."""
        return PNG

    @server.resource("test://example-resource", name="example-resource", mime_type="text/plain")
    def example_resource() -> str:
        """What a prompt embeds."""
        return "Embedded resource content for testing."

    @server.resource("test://watched-resource", name="watched-resource", mime_type="text/plain")
    def watched_resource() -> str:
        """Something to subscribe to."""
        return "Watched resource content"

    @server.resource("test://template/{id}/data", name="template", mime_type="application/json")
    def template(id: str) -> str:
        """Data of any id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.completion("test://template/{id}/data", "id")
    def complete_id(value: str, known: Any) -> list[str]:
        return [text for text in ("123", "124", "456") if text.startswith(value)]


def _prompts(server: Server) -> None:
    @server.prompt()
    def test_simple_prompt() -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt()
    def test_prompt_with_arguments(
        arg1: Annotated[str, msgspec.Meta(description="First test argument")],
        arg2: Annotated[str, msgspec.Meta(description="Second test argument")],
    ) -> str:
        """A prompt with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.completion("test_prompt_with_arguments", "arg1")
    def complete_arg1(value: str, known: Any) -> list[str]:
        return [text for text in ("paris", "park", "party") if text.startswith(value)]

    @server.prompt()
    def test_prompt_with_embedded_resource(
        resourceUri: Annotated[str, msgspec.Meta(description="URI of the resource to embed")],
    ) -> list[Any]:
        """A prompt with a resource's content."""
        embedded = EmbeddedResource(resourceUri, "Embedded resource content for testing.", "text/plain")
        return [embedded, "Please process the embedded resource above."]

    @server.prompt()
    def test_prompt_with_image() -> list[Any]:
        """A prompt with a picture."""
        return [PromptMessage("user", Image(PNG).block()), "Please analyze the image above."]
