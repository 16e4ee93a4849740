"""`edge-mcp call` with the models that ship, on a server of its own and on one that was there before."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.cli.command import FIXTURES, ROOT, Ran, edge_mcp, hears_ctrl_c
from tests.processes import serving

CAT = f"image=@{FIXTURES / 'chelsea.png'}"
SENTENCE = "text=Der schnelle braune Fuchs springt über den faulen Hund."
PNG = b"\x89PNG\r\n\x1a\n"


async def call(*words: str) -> Ran:
    """A call while this process serves something."""
    return await asyncio.to_thread(edge_mcp, "call", *words)


def test_a_photo_of_a_cat_is_a_cat() -> None:
    ran = edge_mcp("call", "detect_objects", CAT)
    assert (ran.status, ran.err) == (0, "")
    header, first = ran.out.splitlines()[:2]
    assert header.split()[:3] == ["label", "score", "box"]
    assert first.split()[0] == "Cat"
    assert "image: width 451, height 300" in ran.out


def test_text_is_shown_line_by_line_and_as_a_whole() -> None:
    ran = edge_mcp("call", "read_text", f"image=@{FIXTURES / 'rendered_text.png'}")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split()[:3] == ["text", "score", "box"]
    assert lines[1].startswith("Raspberry Pi 5  ")
    begin = lines.index("text:")
    assert lines[begin + 1 : begin + 3] == ["  Raspberry Pi 5", "  Total: $1,284.50"]


def test_json_is_compact_for_programs() -> None:
    ran = edge_mcp("call", "--json", "detect_language", SENTENCE, "max_results=1")
    assert ran.out.count("\n") == 1
    assert json.loads(ran.out)["label"] == "de"
    assert len(json.loads(ran.out)["labels"]) == 1


def test_a_text_can_come_from_standard_input() -> None:
    ran = edge_mcp("call", "detect_language", "text=@-", "--json", stdin=SENTENCE.encode())
    assert json.loads(ran.out)["label"] == "de"


def test_nothing_found_is_said() -> None:
    assert "detections: nothing found" in edge_mcp("call", "detect_objects", CAT, "threshold=0.999").out


def test_the_picture_is_saved_with_its_boxes(tmp_path: Path) -> None:
    ran = edge_mcp("call", "detect_objects", CAT, "--save", str(tmp_path / "seen.png"))
    assert ran.status == 0
    assert (tmp_path / "seen.png").read_bytes().startswith(PNG)
    assert "Cat" in ran.out


def test_a_picture_in_another_format_is_refused_before_the_call(tmp_path: Path) -> None:
    error = edge_mcp("call", "detect_objects", CAT, "--save", str(tmp_path / "seen.jpg")).failed()
    assert error == f"the picture is a PNG, not .jpg. Write --save {tmp_path / 'seen.png'}"


def test_a_picture_in_a_folder_that_is_not_there_is_refused_before_the_call() -> None:
    assert (
        edge_mcp("call", "detect_objects", CAT, "--save", "/no/such/x.png").failed().startswith("there is no folder /no/such")
    )


def test_a_tool_without_a_picture_has_none_to_save(tmp_path: Path) -> None:
    ran = edge_mcp("call", "detect_language", SENTENCE, "--save", str(tmp_path / "x.png"))
    assert ran.status == 1
    assert "label: de" in ran.out
    assert ran.err.startswith("edge-mcp: detect_language answered no picture")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["detect_object", CAT],
            "there is no tool 'detect_object'. Did you mean 'detect_objects'? There are: classify_image, ",
        ),
        (
            ["detect_objects", CAT, "treshold=1"],
            "detect_objects has no argument 'treshold'. Did you mean 'threshold'? It has: ",
        ),
        (["detect_objects", CAT, "threshold=high"], "threshold is 'high'. Write a number, such as 0.5"),
        (["detect_objects"], "detect_objects needs the argument 'image'. Write image=@FILE"),
        (["detect_objects", "image=@nope.png"], "image: the file 'nope.png' cannot be read: No such file or directory"),
        (["detect_objects", f"image=@{ROOT / 'README.md'}"], ""),
        (["detect_objects", CAT, "--models", "/no/such"], "the server did not start: the model folder /no/such cannot be read"),
        (["detect_objects", CAT, "--config", "/no/such"], "/no/such cannot be read: No such file or directory"),
        (["detect_objects", CAT, "--timeout", "0.001"], "no answer within 0.001 s. Raise --timeout, or leave it out"),
        (
            ["detect_objects", CAT, "--url", "ws://127.0.0.1:1/mcp"],
            "ws://127.0.0.1:1/mcp cannot be reached: Connection refused. ",
        ),
        (["detect_objects", CAT, "--url", "127.0.0.1"], "'127.0.0.1' is not the address of a WebSocket. "),
    ],
)
def test_what_goes_wrong_is_one_line(words: list[str], error: str) -> None:
    assert edge_mcp("call", *words).failed().startswith(error)


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "edge-mcp.toml").write_text("lane = 1")
    assert "unknown setting 'lane'. Did you mean 'lanes'?" in edge_mcp("call", "detect_objects", CAT, cwd=tmp_path).failed()


def test_debug_shows_the_traceback_and_the_servers_log() -> None:
    ran = edge_mcp("call", "detect_object", CAT, "--debug")
    assert ran.status == 1
    assert "Traceback (most recent call last):" in ran.err
    assert "edge-mcp 0." in ran.err


async def test_a_server_that_is_there_is_called_by_its_url() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        ran = await call("detect_objects", CAT, "--json", "--url", served.url)
        assert json.loads(ran.out)["detections"][0]["label"] == "Cat"
        wrong = await call("detect_objects", CAT, "--url", served.url.removesuffix("/mcp"))
        assert "answers, but not as an MCP server: 404" in wrong.failed()


async def answering(handle: Callable[[ServerConnection], Awaitable[None]], *words: str) -> Ran:
    """A call to a server of this test's own making."""
    async with serve(handle, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")], close_timeout=0.5) as server:
        return await call(*words, "--url", f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp")


async def test_a_websocket_that_talks_something_else_is_one_line() -> None:
    async def handle(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send("hello, this is a chat server")
        await socket.wait_closed()

    assert "the server sent something that is not MCP" in (await answering(handle, "t")).failed()


async def test_a_foreign_servers_text_is_shown_without_what_commands_the_terminal() -> None:
    async def handle(socket: ServerConnection) -> None:
        async for text in socket:
            request = json.loads(text)
            content = [{"type": "text", "text": "first\x1b[2J\nsecond"}]
            answer = {
                "initialize": {"protocolVersion": "2025-11-25"},
                "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
                "tools/call": {"content": content},
            }.get(request["method"])
            outcome = {"result": answer} if answer else {"error": {"code": -32601, "message": "?"}}
            if "id" in request:
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], **outcome}))

    assert (await answering(handle, "t")).out == "first\N{REPLACEMENT CHARACTER}[2J\nsecond\n"
    assert json.loads((await answering(handle, "t", "--json")).out)[0]["type"] == "text"


def start(*words: str, **streams: int) -> subprocess.Popen[bytes]:
    """A call that is not waited for."""
    command = [sys.executable, "-m", "edge_mcp", "call", *words]
    stdin, stdout, stderr = (streams.get(name) for name in ("stdin", "stdout", "stderr"))
    return subprocess.Popen(
        command, cwd=ROOT, process_group=0, stdin=stdin, stdout=stdout, stderr=stderr, preexec_fn=hears_ctrl_c
    )


def test_a_reader_that_goes_away_is_met_with_silence() -> None:
    read, write = os.pipe()
    process = start("detect_language", SENTENCE, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


def test_ctrl_c_is_quiet_and_leaves_no_server_behind() -> None:
    process = start("detect_objects", CAT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.getpgid(process.pid) == process.pid
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 130
    assert not Path(f"/proc/{found[0]}").exists()


async def test_ctrl_c_withdraws_the_call() -> None:
    withdrawn = asyncio.Event()
    processes: list[subprocess.Popen[bytes]] = []

    async def handle(socket: ServerConnection) -> None:
        answers = {
            "server/discover": {"supportedVersions": ["2026-07-28"]},
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
        }
        async for text in socket:
            request = json.loads(text)
            if answer := answers.get(request["method"]):
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}))
            elif request["method"] == "tools/call":
                processes[0].send_signal(signal.SIGINT)
            elif request["method"] == "notifications/cancelled":
                withdrawn.set()

    async with serve(handle, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")]) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        processes.append(start("t", "--url", url, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        out, err = await asyncio.to_thread(processes[0].communicate, timeout=30)
        await asyncio.wait_for(withdrawn.wait(), 30)
    assert (processes[0].returncode, out, err) == (130, b"", b"")


def test_a_person_sees_progress_that_goes_away_and_pretty_json() -> None:
    ours, theirs = pty.openpty()
    process = start("detect_language", SENTENCE, "--json", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # a terminal whose other side is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    progress, _, result = shown.decode().rpartition("\x1b[K")
    assert "loading language-detector …" in progress
    assert result.splitlines()[0] == "{"
