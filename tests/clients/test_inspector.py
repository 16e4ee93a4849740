"""The MCP Inspector's command line on the models that ship, in each of its eras."""

import asyncio
import base64
import io
import json
import os
import signal
from asyncio.subprocess import DEVNULL
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clients.journey import PICTURE
from tests.links import http
from tests.peers import INSPECTOR, run
from tests.processes import TOOLS, Served, serving


def small_picture() -> str:
    """The cat, small enough for an argument on a command line."""
    packed = io.BytesIO()
    Image.open(PICTURE).convert("RGB").save(packed, "JPEG", quality=80)
    return base64.b64encode(packed.getvalue()).decode()


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
async def test_inspector(era: str, tmp_path: Path) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        command = [*INSPECTOR, "--server-url", http(served), "--transport", "http", "--protocol-era", era]
        home = {"HOME": str(tmp_path)}

        async def ask(method: str, *more: str, codes: tuple[int, ...] = (0,)) -> Any:
            said = await run(*command, "--format", "json", "-q", "--method", method, *more, codes=codes, environment=home)
            return json.loads(said)["result"]

        call = ["--tool-name", "detect_objects", "--tool-args-json", json.dumps({"image": small_picture()})]
        await interrupted(served, [*command, "--method", "tools/call", *call], home)
        listed = await ask("tools/list", "--strict")
        assert [tool["name"] for tool in listed["tools"]] == TOOLS
        found = await ask("tools/call", *call)
        assert [detection["label"] for detection in found["structuredContent"]["detections"]] == ["Cat"]
        resources = {resource["uri"] for resource in (await ask("resources/list"))["resources"]}
        assert {"device://status", "model://object-detector"} <= resources
        [card] = (await ask("resources/read", "--uri", "model://object-detector"))["contents"]
        assert json.loads(card["text"])
        prompt = (await ask("prompts/list"))["prompts"][0]
        given = [f"{each['name']}=cat" for each in prompt.get("arguments", []) if each.get("required")]
        got = await ask("prompts/get", "--prompt-name", prompt["name"], *(["--prompt-args", *given] if given else []))
        assert got["messages"]


async def interrupted(served: Served, command: list[str], home: dict[str, str]) -> None:
    """Somebody starts a call, and ends the program as soon as the server is at work on it."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **home}, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    async with asyncio.timeout(30):
        while served.engine_pid() is None:
            assert process.returncode is None
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        await process.wait()
