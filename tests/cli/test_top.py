"""`edge-mcp top`: a page, and a view in a terminal that gives the terminal back."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from edge_mcp.cli.page import Calls, Load, Model, Status, page
from edge_mcp.cli.screen import cut
from edge_mcp.load.device import DeviceLoad
from edge_mcp.load.monitor import Monitor
from edge_mcp.resources.load import LoadResources
from tests.cli.command import ROOT, edge_mcp, hears_ctrl_c
from tests.load.test_monitor import BOARDS, Clock
from tests.processes import Served, serving

STATUS = Status("1.0", 3700, [], Calls(3, 1))


def load(board: str) -> Load:
    clock = Clock()
    told = LoadResources(DeviceLoad(4, Monitor(BOARDS / board, clock), clock), clock, lambda: (5, 2)).told()
    return msgspec.json.decode(msgspec.json.encode(told), type=Load)


@pytest.mark.parametrize("board", [path.name for path in BOARDS.iterdir() if path.is_dir()])
def test_every_board_makes_a_page(board: str) -> None:
    lines = page("ws://pi/mcp", load(board), STATUS)
    assert lines[0] == "edge-mcp 1.0 at ws://pi/mcp, up 1 h 1 min"
    assert "calls    3 answered, 1 failed, 5 waiting, 2 batches running" in lines
    assert "\x1b" not in "".join(lines)


def test_a_hot_board_says_why_in_colour() -> None:
    state = page("ws://pi/mcp", load("pi-4"), STATUS, colours=True)[1]
    assert state.startswith("state    \x1b[31mHOT\x1b[0m")
    assert "the supply voltage is too low" in state


def test_a_servers_words_command_no_terminal() -> None:
    told = Load("\x1b[2J", load("x86").budget, load("x86").signals, absent=["\x1b]0;a\x07"])
    status = Status("\x1b", 1, [Model("\x1b[31m")], STATUS.calls, problems=["\r\x1b[2J"])
    text = "".join(page("a\x1b", told, status, colours=True))
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_line_is_cut_without_counting_its_colours() -> None:
    assert cut("\x1b[31mHOT\x1b[0m: too hot", 6) == "\x1b[31mHOT\x1b[0m: …"
    assert cut("\x1b[31mHOT\x1b[0m", 3) == "\x1b[31mHOT\x1b[0m"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving("--listen", "127.0.0.1:0", XDG_CACHE_HOME=str(tmp_path)) as server:
        yield server


async def test_one_page_of_a_running_server(served: Served) -> None:
    ran = await asyncio.to_thread(edge_mcp, "top", "--url", served.url)
    assert (ran.status, ran.err) == (0, "")
    assert served.url in ran.out.splitlines()[0]
    assert "object-detector" in ran.out
    assert served.engine_pid() is None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_terminal_is_given_back(served: Served, number: signal.Signals, status: int) -> None:
    assert await asyncio.to_thread(_in_a_terminal, served.url, number) == status


def _in_a_terminal(url: str, number: signal.Signals) -> int:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (20, 60))
    command = [sys.executable, "-m", "edge_mcp", "top", "--url", url, "--interval", "0.05"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, preexec_fn=hears_ctrl_c
    ) as process:
        os.close(theirs)
        seen, until = b"", time.monotonic() + 30
        while seen.count(b"\x1b[H") < 3 and time.monotonic() < until:
            seen += os.read(ours, 65536)
        process.send_signal(number)
        try:
            while data := os.read(ours, 65536):
                seen += data
        except OSError:
            assert seen.count(b"\x1b[?1049h") == 1  # so a terminal ends whose program is gone
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(ours)
    assert seen.startswith(b"\x1b[?1049h")
    assert seen.endswith(b"\x1b[?1049l")
    first = seen.split(b"\x1b[H")[1].split(b"\x1b[J")[0].decode().split("\r\n")
    assert len(first) <= 20
    assert all(len(_plain(line)) <= 60 for line in first)
    return process.returncode


def _plain(line: str) -> str:
    for style in ("\x1b[K", "\x1b[0m", "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1;31m"):
        line = line.replace(style, "")
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--url", "http://127.0.0.1:1"), "is not the address of a WebSocket"),
        (("--url", "ws://127.0.0.1:1/mcp"), "start a server there with edge-mcp serve"),
    ],
)
def test_what_cannot_be_watched_is_one_line(words: tuple[str, ...], said: str) -> None:
    assert said in edge_mcp("top", *words).failed()


def test_an_interval_is_a_time() -> None:
    assert "no number of seconds" in edge_mcp("top", "--interval", "0").failed(2)
