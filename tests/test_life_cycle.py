"""How a server process begins and ends, and what each of the two processes never loads."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.processes import MODERN_META, ROOT, SERVE, serving

CAT = base64.b64encode((ROOT / "tests/fixtures/chelsea.png").read_bytes()).decode()
ENGINE_ONLY = ["numpy", "onnxruntime", "ai_edge_litert", "PIL"]
SERVER_ONLY = ["asyncio", "aiohttp", "zeroconf"]


def request(number: int, tool: str = "detect_objects", **arguments: object) -> bytes:
    params = {"name": tool, "arguments": arguments, "_meta": MODERN_META}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


async def test_neither_process_maps_the_libraries_of_the_other() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        async with connect(served.url, max_size=None) as socket:
            for number, tool in enumerate(("detect_objects", "detect_faces")):
                await socket.send(request(number, tool, image=CAT, annotate=True).decode())
                assert "structuredContent" in json.loads(await socket.recv())["result"]
        engine = served.engine_pid()
        assert engine is not None
        assert not [name for name in ENGINE_ONLY if f"/{name}/" in mapped(served.pid)]
        assert [name for name in ENGINE_ONLY if f"/{name}/" in mapped(engine)] == ENGINE_ONLY
        assert not [name for name in ("_asyncio", "/aiohttp/", "/zeroconf/", "_ssl") if name in mapped(engine)]
        assert "libcrypto" not in mapped(engine), "OpenSSL is 3.6 MB that the engine has no use for"


def test_the_engine_serves_every_model_without_an_event_loop() -> None:
    script = f"""
import base64, json, sys
from pathlib import Path
from edge_mcp.engine.host import __main__
from edge_mcp.engine.host.residency import Residency
from edge_mcp.engine.messages import Item, ModelSpec
from edge_mcp.repository.store import scan
from edge_mcp.tools.arguments import input_schema
for entry in scan([Path({str(ROOT / "models")!r})]).entries:
    residency, schema = Residency(), input_schema(entry.manifest, None)
    residency.load(ModelSpec(entry.key, str(entry.folder), entry.manifest, schema))
    kind = next(iter(schema["properties"]))
    value = {{"text": "hello world, how are you", "audio": sys.argv[2]}}.get(kind, sys.argv[1])
    with residency.using(entry.key) as model:
        [outcome], _ = model.run([Item(json.dumps({{kind: value}}).encode())], lambda stage: None)
    assert outcome.structured, outcome.error
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    files = [ROOT / "tests/fixtures/page.png", ROOT / "tests/fixtures/sounds/goforward.wav"]
    given = [base64.b64encode(file.read_bytes()).decode() for file in files]
    done = subprocess.run([sys.executable, "-c", script, *given], capture_output=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    loaded = json.loads(done.stdout)
    assert not set(SERVER_ONLY) & set(loaded)
    assert set(ENGINE_ONLY) <= set(loaded)


def test_the_server_answers_a_call_without_a_tensor_library() -> None:
    script = """
import asyncio, json, sys
from edge_mcp import app
from edge_mcp.config import Config
asyncio.run(app.serve(Config(), stdio=True, network=False, say=lambda text: None))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    lines = request(1, image=CAT) + b"\n"
    done = subprocess.run([sys.executable, "-c", script], input=lines, capture_output=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["result"]["structuredContent"]["detections"][0]["label"] == "Cat"
    loaded = json.loads(done.stderr.decode().splitlines()[-1])
    assert not {*ENGINE_ONLY, "aiohttp", "zeroconf", "psutil"} & set(loaded)


def test_at_the_end_of_its_input_a_stdio_server_answers_what_is_in_flight_and_ends() -> None:
    lines = b"".join(request(number, image=CAT) + b"\n" for number in range(12))
    done = subprocess.run([*SERVE, "--stdio"], input=lines, capture_output=True, timeout=60, cwd=ROOT, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(answer["id"] for answer in answers) == list(range(12))
    assert all(answer["result"]["structuredContent"]["detections"][0]["label"] == "Cat" for answer in answers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_calls_in_flight_finish_and_ends_with_success(number: signal.Signals) -> None:
    async with serving("--stdio") as served:
        await served.call("detect_objects", image=CAT)
        await served.write(b"".join(request(100 + n, image=CAT) + b"\n" for n in range(20)))
        first = await served.read()
        served.process.send_signal(number)
        got = [first] + [await served.read() for _ in range(19)]
        assert sorted(answer["id"] for answer in got) == list(range(100, 120))
        assert await asyncio.wait_for(served.process.wait(), 30) == 0
    assert "Traceback" not in "\n".join(served.log)


async def test_a_signal_ends_it_even_when_the_engine_hangs() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        async with connect(served.url, max_size=None) as socket:
            await socket.send(request(1, image=CAT).decode())
            await socket.recv()
            engine = served.engine_pid()
            assert engine is not None
            os.kill(engine, signal.SIGSTOP)
            await socket.send(request(2, image=CAT).decode())
            await (await socket.ping())  # it was read
            served.process.terminate()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 30)
            assert socket.close_code == 1012
            assert socket.close_reason == "the server is stopping"
        assert await asyncio.wait_for(served.process.wait(), 30) == 0
    assert not alive(engine)


async def test_a_peer_that_leaves_takes_its_calls_along_and_nobody_elses() -> None:
    async with serving("--listen", "127.0.0.1:0") as served, connect(served.url, max_size=None) as staying:
        async with connect(served.url, max_size=None) as leaving:
            for number in range(30):
                await leaving.send(request(number, image=CAT).decode())
            await leaving.recv()
        await staying.send(request(1, image=CAT).decode())
        answer = json.loads(await asyncio.wait_for(staying.recv(), 30))
        assert answer["result"]["structuredContent"]["detections"][0]["label"] == "Cat"
    assert "Traceback" not in "\n".join(served.log)


async def test_a_cancelled_call_is_never_answered() -> None:
    async with serving("--stdio", "--lanes", "1") as served:
        await served.call("detect_objects", image=CAT)
        for number in (10, 11, 12):  # no two alike: those would be computed once
            await served.write(request(number, image=CAT, threshold=number / 100) + b"\n")
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 11}}
        await served.write(json.dumps(cancel).encode() + b"\n")
        assert [(await served.read())["id"] for _ in range(2)] == [10, 12]
        assert len((await served.ask("tools/list"))["result"]["tools"]) == 1 + len(list((ROOT / "models").glob("*/model.toml")))
