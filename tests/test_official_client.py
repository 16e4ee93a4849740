"""The official MCP client (2.3.0), which knows nothing of edge-mcp, uses the models that ship. Others: tests/clients."""

import asyncio
import base64
import json
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from tests.links import over_http, over_stdio, over_websocket, websocket
from tests.processes import ROOT, TOOLS, serving

FIXTURES = ROOT / "tests/fixtures"


def encoded(name: str) -> str:
    return base64.b64encode((FIXTURES / name).read_bytes()).decode()


def structured(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    text = result.content[0]
    assert isinstance(text, TextContent)
    assert json.loads(text.text) == result.structured_content
    return result.structured_content


@pytest.mark.parametrize("link", [over_stdio, over_http, over_websocket])
@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_every_tool_gives_the_right_answer(link: Any, mode: str) -> None:
    opened: AbstractAsyncContextManager[Client] = link(mode)
    async with opened as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
        cat = structured(await client.call_tool("detect_objects", {"image": encoded("chelsea.png")}))
        assert [detection["label"] for detection in cat["detections"]] == ["Cat"]
        assert cat["image"] == {"width": 451, "height": 300}
        espresso = structured(await client.call_tool("classify_image", {"image": encoded("coffee.png"), "max_results": 1}))
        assert [entry["label"] for entry in espresso["labels"]] == ["espresso"]
        face = structured(await client.call_tool("detect_faces", {"image": encoded("astronaut.png")}))["faces"]
        assert len(face) == 1
        assert 170 < face[0]["box"]["x_min"] < 230
        language = structured(
            await client.call_tool("detect_language", {"text": "Le serveur fonctionne sur un petit ordinateur."})
        )
        assert language["label"] == "fr"
        code = base64.b64encode((ROOT / "edge_mcp/server.py").read_bytes()).decode()
        assert structured(await client.call_tool("identify_file", {"data": code}))["label"] == "python"


async def test_tools_say_truly_what_they_are() -> None:
    async with over_stdio("auto") as client:
        for tool in (await client.list_tools()).tools:
            assert tool.title
            assert tool.description
            assert tool.annotations is not None
            hints = tool.annotations
            assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint) == (
                True, False, True, False,
            )  # fmt: skip
            assert tool.input_schema["additionalProperties"] is False
            assert tool.output_schema is not None


async def test_the_list_is_answered_before_any_engine_is_started() -> None:
    async with serving("--stdio") as served:
        assert len((await served.ask("tools/list"))["result"]["tools"]) == len(TOOLS)
        assert served.engine_pid() is None
        await served.call("detect_language", text="hello there, how are you?")
        assert served.engine_pid() is not None


async def test_progress_is_reported_to_those_who_ask_for_it() -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with over_stdio("auto") as client:
        await client.call_tool("detect_objects", {"image": encoded("chelsea.png")}, progress_callback=on_progress)
    assert [step[0] for step in heard] == [0, 1]
    assert heard[0][2] == "loading object-detector"


async def test_an_unknown_tool_is_an_error_that_names_the_known_ones() -> None:
    async with over_stdio("auto") as client:
        with pytest.raises(Exception, match="detect_objects"):
            await client.call_tool("detect_aliens", {})


async def test_the_engine_may_be_killed_at_any_time_and_no_connection_is_lost() -> None:
    image = encoded("chelsea.png")
    async with serving("--listen", "127.0.0.1:0") as served, Client(websocket(served.url)) as client:
        wrong: list[str] = []
        answered = 0

        async def call() -> None:
            nonlocal answered
            result = await client.call_tool("detect_objects", {"image": image})
            if result.is_error:
                text = result.content[0]
                assert isinstance(text, TextContent)
                assert "killed from outside (SIGKILL)" in text.text
                assert "Call again" in text.text
            elif structured(result)["detections"][0]["label"] != "Cat":
                wrong.append(str(result))
            answered += 1

        for _ in range(6):
            calls = [asyncio.create_task(call()) for _ in range(8)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            if engine := served.engine_pid():
                os.kill(engine, signal.SIGKILL)
            await asyncio.gather(*calls)
            assert structured(await client.call_tool("detect_objects", {"image": image}))["detections"][0]["label"] == "Cat"
        assert (answered, wrong) == (48, [])


async def test_a_bare_model_file_is_a_tensor_tool(tmp_path: Path) -> None:
    for name in ("mlp_int8.onnx", "sine_float.tflite"):
        (tmp_path / name).write_bytes((FIXTURES / "models" / name).read_bytes())
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "edge_mcp", "serve", "--stdio", "--models", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    async with Client(server) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert sorted(tools) == ["device_status", "mlp_int8", "sine_float"]
        [x] = tools["sine_float"].input_schema["required"]
        listed = structured(await client.call_tool("sine_float", {x: [[0.5], [1.5]]}))["outputs"]
        [output] = listed.values()
        assert output["shape"] == [2, 1]
        assert output["data"][0][0] == pytest.approx(0.479, abs=0.06)
        packed = base64.b64encode(b"\x00\x00\x00\x3f\x00\x00\xc0\x3f").decode()
        typed = {"dtype": "FP32", "shape": [2, 1], "data": packed}
        [output] = structured(await client.call_tool("sine_float", {x: typed}))["outputs"].values()
        assert len(base64.b64decode(output["data"])) == 8
    async with serving("--stdio", "--models", str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache")) as served:
        assert len((await served.ask("tools/list"))["result"]["tools"]) == 3
        assert served.engine_pid() is None, "a known signature needs no engine"
