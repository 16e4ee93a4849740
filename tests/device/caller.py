"""Calls a device again and again on one connection until standard input ends, and says what became of that."""

import asyncio
import json
import os
import sys

from edge_mcp.client.client import Client
from edge_mcp.client.dial import dialling


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(url: str) -> None:
    answered = failed = 0
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with Client(await dialling(url, os.environ["EDGE_MCP_TOKEN"], say=lambda line: None)()) as client:
        await client.call_tool("detect_language", {"text": "Where is the station?"})  # which loads the model
        say("calling")
        while not ended.done():  # raises where the connection is lost
            result = await client.call_tool("detect_language", {"text": "Wo ist der Bahnhof?"})
            answered, failed = answered + 1, failed + result.isError
    say({"answered": answered, "failed": failed})


asyncio.run(main(sys.argv[1]))
