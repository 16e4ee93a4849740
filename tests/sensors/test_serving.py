"""A photo played as a camera: the whole way, over stdio and HTTP, from settings in a file."""

import asyncio
import base64
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cli.command import edge_mcp
from tests.processes import MODERN_META, ROOT, serving

FIXTURES = ROOT / "tests/fixtures"
CAT = FIXTURES / "chelsea.png"


def settings(folder: Path) -> str:
    """A configuration with a camera, a folder, a program and one that hangs."""
    played = folder / "played"
    played.mkdir()
    shutil.copy(CAT, played / "1.png")
    shutil.copy(FIXTURES / "coffee.png", played / "2.png")
    file = folder / "edge-mcp.toml"
    file.write_text(
        "sensor_timeout_s = 1\n[sensors]\n"
        f'door = "file:{CAT}"\nfilm = "folder:{played}"\ncat = "command:cat {CAT}"\nhung = "command:sleep 600"\n'
    )
    return str(file)


def labels(result: dict[str, Any]) -> list[str]:
    return [one["label"] for one in result["structuredContent"]["detections"]]


async def test_over_stdio(tmp_path: Path) -> None:
    async with serving("--stdio", "--config", settings(tmp_path)) as served:
        tools = {tool["name"]: tool for tool in (await served.ask("tools/list"))["result"]["tools"]}
        said = "Or a sensor of this device, read now: sensor://door, sensor://film, sensor://cat, sensor://hung."
        assert tools["detect_objects"]["inputSchema"]["properties"]["image"]["description"].endswith(said)
        assert "sensor" not in json.dumps(tools["detect_language"])
        for name in ("door", "cat", "film"):
            assert labels(await served.call("detect_objects", image=f"sensor://{name}")) == ["Cat"]
        assert "Cat" not in labels(await served.call("detect_objects", image="sensor://film"))  # the next picture
        assert labels(await served.call("detect_objects", image="sensor://film")) == ["Cat"]
        drawn = await served.call("detect_objects", image="sensor://door", annotate=True)
        assert drawn["content"][1]["mimeType"] == "image/png"
        words = await served.failure("detect_objects", image="sensor://hung")
        assert words.startswith("sensor://hung cannot be read: it took longer than 1 s. ")
        assert "Did you mean sensor://door?" in await served.failure("detect_objects", image="sensor://dor")
        assert "there is no sensor" in await served.failure("detect_objects", image="sensor://file:/etc/passwd")
        resources = (await served.ask("resources/list"))["result"]["resources"]
        assert [one["uri"] for one in resources if one["uri"].startswith("sensor:")] == [
            "sensor://door",
            "sensor://film",
            "sensor://cat",
            "sensor://hung",
        ]
        (content,) = (await served.ask("resources/read", uri="sensor://cat"))["result"]["contents"]
        assert (content["uri"], content["mimeType"]) == ("sensor://cat", "image/png")
        assert base64.b64decode(content["blob"]) == CAT.read_bytes()
        error = (await served.ask("resources/read", uri="sensor://nothing"))["error"]
        assert "there is no resource sensor://nothing" in error["message"]
        prompt = (await served.ask("prompts/get", name="look_at_scene", arguments={}))["result"]
        assert "If I gave you none, use `sensor://door`" in prompt["messages"][0]["content"]["text"]
    size = CAT.stat().st_size
    assert f"edge-mcp: sensor://cat was read for resources/read of stdio: image/png, {size} bytes" in served.log
    assert f"edge-mcp: sensor://door was read for detect_objects of stdio: image/png, {size} bytes" in served.log
    assert any(line.startswith("edge-mcp: sensor://hung was not read for detect_objects of stdio: ") for line in served.log)


async def test_over_http_each_request_of_one_client_has_its_consent(tmp_path: Path) -> None:
    async with serving("--listen", "127.0.0.1:0", "--config", settings(tmp_path)) as served, aiohttp.ClientSession() as http:

        async def post(client: dict[str, Any], method: str, named: str, /, **params: Any) -> dict[str, Any]:
            meta = MODERN_META | {"io.modelcontextprotocol/clientCapabilities": client}
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
            headers = {
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": method,
                "Mcp-Name": named,
            }
            async with http.post(served.url.replace("ws://", "http://"), json=body, headers=headers) as response:
                text = await response.text()
            if response.content_type == "text/event-stream":
                text = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")][-1]
            result: dict[str, Any] = json.loads(text)["result"]
            return result

        call = {"name": "detect_objects", "arguments": {"image": "sensor://door"}}
        assert labels(await post({}, "tools/call", "detect_objects", **call)) == ["Cat"]  # it cannot ask
        forms: dict[str, Any] = {"elicitation": {}}
        asked = await post(forms, "tools/call", "detect_objects", **call)
        assert asked["resultType"] == "input_required"
        answer = {"requestState": asked["requestState"], "inputResponses": {"sensor:door": {"action": "accept", "content": {}}}}
        assert labels(await post(forms, "tools/call", "detect_objects", **call, **answer)) == ["Cat"]
        assert labels(await post(forms, "tools/call", "detect_objects", **call)) == ["Cat"]  # without another question
        other = await post(forms, "resources/read", "sensor://cat", uri="sensor://cat")
        assert other["resultType"] == "input_required"


async def test_a_server_without_sensors_says_nothing_of_them() -> None:
    async with serving("--stdio") as served:
        for method in ("tools/list", "resources/list"):
            assert "sensor" not in json.dumps(await served.ask(method))
        words = await served.failure("detect_objects", image="sensor://door")
        assert "'sensor://door': no such sensor is configured for this argument" in words


def test_without_sensors_none_of_their_rooms_are_loaded() -> None:
    code = "import sys, edge_mcp.app; print([name for name in sys.modules if 'sensors' in name or 'sensing' in name])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=60)
    assert ran.stdout.decode().strip() == "[]"


async def test_a_server_that_stops_ends_what_reads_a_sensor(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"import os, time; open({str(pids)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    sensor = f"x=command:{shlex.quote(sys.executable)} -S -c {shlex.quote(code)}"
    async with serving("--stdio", "--sensor", sensor, "--sensor-timeout-s", "600") as served:
        params = {"name": "detect_objects", "arguments": {"image": "sensor://x"}, "_meta": MODERN_META}
        await served.write(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params}).encode() + b"\n")
        for _ in range(3000):
            if pids.exists() and pids.read_text().endswith("\n"):
                break
            await asyncio.sleep(0.01)
        pid = int(pids.read_text())
        assert Path(f"/proc/{pid}").exists()
        assert labels(await served.call("detect_objects", image=base64.b64encode(CAT.read_bytes()).decode())) == ["Cat"]
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("image=sensor://door", f"--sensor=door=file:{CAT}"), ""),
        (("image=sensor://dor", f"--sensor=door=file:{CAT}"), "there is no sensor 'sensor://dor'. Did you mean sensor://door?"),
        (("image=sensor://door", "--sensor=door=camera:/dev/video97"), "there is no camera at /dev/video97"),
        (("image=sensor://door", "--sensor=door=camra:/dev/video97"), "command line: sensor door: "),
    ],
)
def test_the_shell_reads_sensors_too(words: tuple[str, str], said: str) -> None:
    ran = edge_mcp("call", "detect_objects", *words)
    if said:
        assert said in ran.failed()
    else:
        assert "Cat" in ran.out
