"""`edge-mcp connect` as a process: what a host and its user see."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from edge_mcp.transports import tls
from tests.cli.command import hears_ctrl_c
from tests.links import ws
from tests.processes import MODERN_META, ROOT, serving

CONNECT = [sys.executable, "-m", "edge_mcp", "connect"]


@asynccontextmanager
async def started(*arguments: str, **environment: str) -> AsyncIterator[Process]:
    """The command, killed if it does not end by itself."""
    process = await asyncio.create_subprocess_exec(
        *CONNECT,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=2**26,
        preexec_fn=hears_ctrl_c,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(*arguments: str, **environment: str) -> tuple[int, str]:
    """Status and standard error of the command, when a host asks one thing of it."""
    async with started(*arguments, **environment) as process:
        out, err = await asyncio.wait_for(process.communicate(request(1, "ping")), 30)
        assert process.returncode is not None
        for line in out.splitlines():
            assert "error" in json.loads(line)
        return process.returncode, err.decode().strip()


def request(known: int, method: str, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": known, "method": method, "params": {**params, "_meta": MODERN_META}}
    return json.dumps(message).encode() + b"\n"


async def answer(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    message: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    return message


async def write(process: Process, data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    await process.stdin.drain()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["raspberrypi.local"], "'raspberrypi.local' is not the address of a WebSocket. An edge-mcp server is at ws://"),
        (
            ["ws://127.0.0.1:1/mcp", "--fingerprint", "x"],
            "ws://127.0.0.1:1/mcp has no certificate. A fingerprint goes with wss://",
        ),
        (["wss://127.0.0.1:1/mcp", "--fingerprint", "x"], "'x' is no fingerprint of a certificate. Write the 64 digits"),
        (["wss://127.0.0.1:1/mcp#fingerprint=ab"], "'ab' is no fingerprint of a certificate"),
        (
            ["ws://127.0.0.1:1/mcp", "--token-file", "/no/such/file"],
            "the token file /no/such/file cannot be read: No such file",
        ),
    ],
)
async def test_what_cannot_work_is_one_line_at_once(arguments: list[str], words: str) -> None:
    status, said = await ended(*arguments)
    assert status == 1
    assert said.startswith(f"edge-mcp: {words}")
    assert "\n" not in said


@pytest.mark.parametrize("text", ["x", "70000", "-1", ""])
async def test_a_wrong_port_is_wrong_usage(text: str) -> None:
    status, said = await ended("ws://127.0.0.1:1/mcp", f"--http={text}")
    assert status == 2
    assert "is no port. Write a number up to 65535" in said


async def test_a_wrong_token_is_told_and_not_tried_again(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file in (right, wrong):
        file.write_text(f"{file.name}-token-of-some-length\n")
        file.chmod(0o600)
    async with serving("--listen", "127.0.0.1:0", "--token-file", str(right)) as served:
        status, said = await ended(ws(served), "--token-file", str(wrong))
        assert status == 1
        assert said == f"edge-mcp: {ws(served)} wants another token. Name the file that has it with --token-file"
        async with started(ws(served), "--token-file", str(right)) as process:
            await write(process, request(1, "tools/list"))
            assert "result" in await answer(process)


async def test_a_host_that_closes_its_end_gets_its_answers_first() -> None:
    async with serving("--listen", "127.0.0.1:0") as served, started(ws(served)) as process:
        call = request(1, "tools/call", name="detect_language", arguments={"text": "Wo ist der Bahnhof?"})
        out, err = await asyncio.wait_for(process.communicate(call + request(2, "tools/list")), 30)
        assert {json.loads(line)["id"] for line in out.splitlines()} == {1, 2}
        assert all("result" in json.loads(line) for line in out.splitlines())
        assert process.returncode == 0
        assert err == b""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_signals_end_it_quietly(number: signal.Signals, status: int) -> None:
    async with serving("--listen", "127.0.0.1:0") as served, started(ws(served)) as process:
        await write(process, request(1, "tools/list"))
        await answer(process)
        process.send_signal(number)
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, err) == (status, b"")


async def test_a_host_that_vanishes_ends_it() -> None:
    """Nobody reads any more, and nobody writes."""
    async with serving("--listen", "127.0.0.1:0") as served, started(ws(served)) as process:
        await write(process, request(1, "tools/list"))
        await answer(process)
        transport: Any = process._transport  # type: ignore[attr-defined]
        transport.get_pipe_transport(1).close()
        await write(process, request(2, "tools/list"))
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_large_message_is_refused_and_what_follows_is_not() -> None:
    async with serving("--listen", "127.0.0.1:0") as served, started(ws(served)) as process:
        await write(process, b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"x": "' + b"y" * 2**25 + b'"}}\n')
        refused = await answer(process)
        assert refused["id"] == 7
        assert "larger than the 33554432 allowed" in refused["error"]["message"]
        await write(process, b'\xff\xfe not a message\n{"jsonrpc":"2.0","id":8,"method":"x","params":{"x":"\xff"}}\n')
        assert (await answer(process))["error"]["code"] == -32700
        assert (await answer(process))["error"]["code"] == -32700
        await write(process, request(9, "tools/list"))
        assert (await answer(process))["id"] == 9


@pytest.mark.parametrize("nuisance", ["garbage", "oversized", "binary", "torn"])
async def test_a_hostile_device_is_an_error_for_the_request_and_no_end(nuisance: str) -> None:
    async def handle(socket: ServerConnection) -> None:
        async for _ in socket:
            match nuisance:
                case "garbage":
                    await socket.send("\0 this is not MCP")
                case "oversized":
                    await socket.send("x" * (33 * 2**20))
                case "binary":
                    await socket.send(b"\xff" * 100)
                case "torn":
                    socket.transport.write(b"\x81\x7f\x7f")
                    socket.transport.abort()

    async with serve(handle, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")], max_size=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        async with started(url) as process:
            for known in (1, 2) if nuisance == "garbage" else (1,):
                await write(process, request(known, "tools/list"))
                error = await answer(process)
                assert error["id"] == known
                assert "the connection to the device was lost 3 times" in error["error"]["message"]
            assert process.returncode is None


async def test_a_changed_certificate_is_refused_with_what_to_do(tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path / "host")}
    for name in ("one", "two"):
        tls.of("", "", tmp_path / name / "edge-mcp/tls")
    async with serving("--listen", "127.0.0.1:0", "--tls", XDG_DATA_HOME=str(tmp_path / "one")) as served:
        url = "wss://" + served.url.partition("://")[2]
        async with started(url, **home) as process:
            out, err = await asyncio.wait_for(process.communicate(request(1, "tools/list")), 30)
            assert "result" in json.loads(out)
            assert b"is new here: compare what the device shows with its certificate, sha256:" in err
        async with started(url, **home) as process:
            out, err = await asyncio.wait_for(process.communicate(request(1, "tools/list")), 30)
            assert "result" in json.loads(out)
            assert err == b""
    address = url.partition("://")[2].removesuffix("/mcp")
    async with serving("--listen", address, "--tls", XDG_DATA_HOME=str(tmp_path / "two")):
        status, said = await ended(url, **home)
        assert status == 1
        assert said.startswith(f"edge-mcp: the certificate of {address} is sha256:")
        assert "as before. Another device may pose as it" in said
        assert f"forget what was: edge-mcp discover --forget wss://{address}" in said


async def test_what_is_printed_by_token_has_the_fingerprint(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "EDGE_MCP_TLS": "true", "EDGE_MCP_LISTEN": "0.0.0.0:8765"}
    command = [sys.executable, "-m", "edge_mcp", "token"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stdout=PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    shown = tls.of("", "", tmp_path / "edge-mcp/tls")
    assert f"certificate: {shown.fingerprint}\n  in {shown.certificate}" in out.decode()
    assert "https://" in out.decode()
    assert "http://" not in out.decode()


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        port = served.url.split(":")[2].split("/")[0]
        status, said = await ended(ws(served), "--http", port)
        assert status == 1
        assert said.startswith(f"edge-mcp: cannot listen on 127.0.0.1:{port}: Address already in use")
