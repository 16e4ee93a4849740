"""The Python SDK's first generation: python_v1.py PICTURE (URL | COMMAND…), where URL is http: or ws:. See journey.py."""
# mypy: ignore-errors
# It runs where `mcp` is another version than the one that mypy sees.

import asyncio
import base64
import json
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from mcp import ClientSession, McpError, StdioServerParameters, stdio_client, types
from mcp.client.streamable_http import streamable_http_client
from mcp.client.websocket import websocket_client
from pydantic import AnyUrl

WITHIN = timedelta(seconds=60)


@asynccontextmanager
async def connected(where, *arguments):
    if where.startswith("ws:"):
        opened = websocket_client(where)
    elif where.startswith("http:"):
        opened = streamable_http_client(where)
    else:
        opened = stdio_client(StdioServerParameters(command=where, args=list(arguments)))
    async with opened as streams, ClientSession(*streams[:2], read_timeout_seconds=WITHIN) as session:
        yield session


async def cancelled_call(session, arguments):
    """This generation has no word for cancelling a call: what it can do is to send the notification, and to wait."""
    under_way = asyncio.Event()
    token = None

    async def on_progress(_progress, _total, _message):
        under_way.set()

    token = session._request_id
    call = asyncio.create_task(
        session.call_tool("detect_objects", arguments, read_timeout_seconds=timedelta(seconds=3), progress_callback=on_progress)
    )
    await asyncio.wait_for(under_way.wait(), 60)
    params = types.CancelledNotificationParams(requestId=token, reason="not wanted any more")
    await session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
    try:
        return f"answered: {await call}"
    except McpError as error:
        return f"refused: {error}"


async def main(picture, *where):
    arguments = {"image": base64.b64encode(Path(picture).read_bytes()).decode()}
    async with connected(*where) as session:
        version = (await session.initialize()).protocolVersion

        async def found():
            result = await session.call_tool("detect_objects", arguments)
            return [one["label"] for one in result.structuredContent["detections"]] if not result.isError else result.content

        seen = {"version": version, "tools": [tool.name for tool in (await session.list_tools()).tools]}
        seen["cancelled"] = await cancelled_call(session, arguments)
        seen["labels"] = [await found(), await found()]
        seen["templates"] = [one.uriTemplate for one in (await session.list_resource_templates()).resourceTemplates]
        seen["contents"], seen["messages"] = {}, {}
        for resource in (await session.list_resources()).resources:
            read = await session.read_resource(resource.uri)
            seen["contents"][str(resource.uri)] = [one.model_dump(mode="json") for one in read.contents]
        try:
            await session.read_resource(AnyUrl("model://no-such-model"))
        except McpError as error:
            seen["missing"] = error.error.code
        for prompt in (await session.list_prompts()).prompts:
            reference = types.PromptReference(type="ref/prompt", name=prompt.name)
            given = {}
            for argument in (one.name for one in prompt.arguments or [] if one.required):
                completed = await session.complete(reference, {"name": argument, "value": ""})
                given[argument] = completed.completion.values[0]
            got = await session.get_prompt(prompt.name, given)
            seen["messages"][prompt.name] = [one.model_dump(mode="json") for one in got.messages]
    sys.stdout.write(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
