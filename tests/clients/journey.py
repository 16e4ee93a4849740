"""What every client does with a server, and how it is judged."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from mcp import Client, MCPError
from mcp_types import CallToolResult, PromptReference

from tests.processes import ROOT, TOOLS

PICTURE = ROOT / "tests/fixtures/chelsea.png"


async def travel(client: Client, picture: Path = PICTURE) -> dict[str, Any]:
    """The journey of the official Python client; those of the others are journey.mjs and python_v1.py."""
    arguments = {"image": base64.b64encode(picture.read_bytes()).decode()}

    async def found() -> list[str]:
        result = await client.call_tool("detect_objects", arguments)
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        return [detection["label"] for detection in result.structured_content["detections"]]

    seen: dict[str, Any] = {"version": client.protocol_version, "contents": {}, "messages": {}}
    seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
    seen["cancelled"] = await _cancelled(client, arguments)
    seen["labels"] = [await found(), await found()]
    seen["templates"] = [each.uri_template for each in (await client.list_resource_templates()).resource_templates]
    for resource in (await client.list_resources()).resources:
        read = await client.read_resource(resource.uri)
        seen["contents"][resource.uri] = [each.model_dump(mode="json", by_alias=True) for each in read.contents]
    try:
        await client.read_resource("model://no-such-model")
    except MCPError as error:
        seen["missing"] = error.error.code
    for prompt in (await client.list_prompts()).prompts:
        reference = PromptReference(name=prompt.name)
        given = {
            each.name: (await client.complete(reference, {"name": each.name, "value": ""})).completion.values[0]
            for each in prompt.arguments or []
            if each.required
        }
        got = await client.get_prompt(prompt.name, given)
        seen["messages"][prompt.name] = [each.model_dump(mode="json", by_alias=True) for each in got.messages]
    return seen


async def _cancelled(client: Client, arguments: dict[str, Any]) -> str:
    """The first call waits for the engine: it says that it is under way, and is cancelled then."""
    under_way = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        under_way.set()

    async def called() -> CallToolResult:
        return await client.call_tool("detect_objects", arguments, progress_callback=on_progress)

    call = asyncio.create_task(called())
    await asyncio.wait_for(under_way.wait(), 60)
    call.cancel()
    [outcome] = await asyncio.gather(call, return_exceptions=True)
    return f"refused: {outcome!r}" if isinstance(outcome, BaseException) else f"answered: {outcome}"


def judge(seen: dict[str, Any], version: str) -> None:
    """Whether a journey was as it has to be in that revision."""
    assert seen["version"] == version
    assert seen["tools"] == TOOLS
    assert seen["cancelled"].startswith("refused: ")
    assert seen["labels"] == [["Cat"], ["Cat"]]
    assert seen["templates"] == ["model://{name}"]
    assert seen["missing"] in (-32602, -32002)  # some clients translate the one of the old revisions
    assert "device://status" in seen["contents"]
    assert "model://object-detector" in seen["contents"]
    for uri, contents in seen["contents"].items():
        assert [each["uri"] for each in contents] == [uri]
        assert json.loads(contents[0]["text"])
    assert seen["messages"]
    for messages in seen["messages"].values():
        assert messages
        assert all(each["content"]["text"] for each in messages if each["content"]["type"] == "text")
