"""The official MCP client reads a photo as a camera, and its user is asked, on every transport and in both eras."""

import base64
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import BlobResourceContents, ElicitRequestParams, ElicitResult, TextContent

from tests.links import http, websocket, ws
from tests.processes import ROOT, serving

CAT = ROOT / "tests/fixtures/chelsea.png"
SENSOR = ["--sensor", f"door=file:{CAT}"]


class User:
    """Answers what the client is asked."""

    def __init__(self, agrees: bool) -> None:
        self.agrees = agrees
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return ElicitResult(action="accept", content={}) if self.agrees else ElicitResult(action="decline")


@asynccontextmanager
async def linked(link: str, mode: str, user: User) -> AsyncIterator[Client]:
    if link == "stdio":
        words = ["-m", "edge_mcp", "serve", "--stdio", *SENSOR]
        server = StdioServerParameters(command=sys.executable, args=words, cwd=ROOT)
        async with Client(server, mode=mode, elicitation_callback=user) as client:
            yield client
        return
    async with serving("--listen", "127.0.0.1:0", *SENSOR) as served:
        target: Any = http(served) if link == "http" else websocket(ws(served))
        async with Client(target, mode=mode, elicitation_callback=user) as client:
            yield client


@pytest.mark.parametrize("link", ["stdio", "http", "websocket"])
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_user_is_asked_once_and_the_camera_is_read(link: str, mode: str) -> None:
    user = User(agrees=True)
    async with linked(link, mode, user) as client:
        for _ in range(2):
            seen = await client.call_tool("detect_objects", {"image": "sensor://door"})
            assert seen.structured_content is not None
            assert [one["label"] for one in seen.structured_content["detections"]] == ["Cat"]
        assert "sensor://door" in [str(one.uri) for one in (await client.list_resources()).resources]
        (content,) = (await client.read_resource("sensor://door")).contents
        assert isinstance(content, BlobResourceContents)
        assert (content.mime_type, base64.b64decode(content.blob)) == ("image/png", CAT.read_bytes())
    assert len(user.asked) == 1
    assert "wants to read the sensor 'door'" in user.asked[0]


@pytest.mark.parametrize("link", ["stdio", "http", "websocket"])
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_user_who_says_no_is_heard(link: str, mode: str) -> None:
    user = User(agrees=False)
    async with linked(link, mode, user) as client:
        refused = await client.call_tool("detect_objects", {"image": "sensor://door"})
        assert refused.is_error
        assert isinstance(refused.content[0], TextContent)
        assert refused.content[0].text.startswith("sensor://door is not read: the user does not allow it")
