"""`edge-mcp serve`: what it needs, what it refuses, how it ends."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mcp.cli import serve
from tests.cli.command import ROOT, edge_mcp
from tests.processes import MODERN_META, serving

LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": MODERN_META}}).encode() + b"\n"


def test_a_stdio_host_gets_answers_on_standard_output_and_nothing_else() -> None:
    ran = edge_mcp("serve", "--stdio", stdin=LIST)
    assert ran.status == 0
    assert [json.loads(line)["id"] for line in ran.out.splitlines()] == [1]
    assert ran.err.startswith("edge-mcp ")


def test_a_quiet_server_says_nothing() -> None:
    assert edge_mcp("serve", "--stdio", "--log-level", "warning").err == ""


def test_serving_stdio_loads_neither_aiohttp_nor_the_client_nor_what_unpacks_archives() -> None:
    script = (
        "import sys; from edge_mcp.cli.main import main\n"
        "try: main(['serve', '--stdio'])\n"
        "except SystemExit as end: print(end.code, *sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], input=LIST, capture_output=True, cwd=ROOT, timeout=60)
    status, *modules = ran.stderr.decode().splitlines()[-1].split()
    assert status == "0"
    unwanted = {
        "aiohttp",
        "zeroconf",
        "psutil",
        "shutil",
        "zlib",
        "edge_mcp.client",
        "edge_mcp.cli.call",
        "edge_mcp.transports.http",
    }
    assert not unwanted & set(modules)


async def test_stdio_and_network_can_be_served_at_once() -> None:
    async with serving("--stdio", "--listen", "127.0.0.1:0") as served:
        assert (await served.ask("tools/list"))["result"]["tools"]
        async with asyncio.timeout(30):
            while not served.url:
                await asyncio.sleep(0.01)
        _, writer = await asyncio.open_connection(*served.url.split("/")[2].split(":"))
        writer.close()


@pytest.mark.parametrize(("redirection", "name"), [("<&-", "input"), (">&-", "output")])
def test_a_standard_stream_that_is_closed_is_one_line(redirection: str, name: str) -> None:
    command = f"exec {sys.executable} -m edge_mcp serve --stdio {redirection}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"edge-mcp: standard {name} is closed. Without --stdio it is not needed\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_status_0(number: int) -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        served.process.send_signal(number)
        assert await asyncio.wait_for(served.process.wait(), 30) == 0


async def test_a_port_in_use_is_one_line() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        address = served.url.split("/")[2]
        ran = await asyncio.to_thread(edge_mcp, "serve", "--listen", address, "--log-level", "error")
    error = ran.failed()
    hint = "Stop what uses it, or choose another with --listen HOST:PORT"
    assert error == f"cannot listen on {address}: Address already in use. {hint}"


def test_an_address_that_others_can_reach_needs_insecure() -> None:
    error = edge_mcp("serve", "--listen", "0.0.0.0:0").failed()
    assert error.startswith("0.0.0.0 can be reached by others")
    assert "--insecure" in error


async def test_insecure_listens_beyond_this_machine() -> None:
    async with serving("--listen", "0.0.0.0:0", "--insecure") as served:
        assert served.url.startswith("ws://0.0.0.0:")


def test_a_wrong_address_is_one_line() -> None:
    hint = "Write HOST:PORT, such as 127.0.0.1:8765, or *:8765"
    assert edge_mcp("serve", "--listen", "here").failed() == f"listen is 'here'. {hint}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('lisen = "127.0.0.1:1"', "unknown setting 'lisen'. Did you mean 'listen'?"),
        ("lanes = 100", "lanes is 100. Write a number from 0 to 64"),
        ("lanes = [", "is not valid TOML"),
    ],
)
def test_a_wrong_configuration_is_one_line(text: str, error: str, tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    assert error in edge_mcp("serve", "--stdio", "--config", str(file)).failed()


def test_a_configuration_that_is_not_there_is_one_line() -> None:
    assert edge_mcp("serve", "--config", "/no/such").failed() == "/no/such cannot be read: No such file or directory"


def test_flags_go_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_MCP_LANES", "3")
    monkeypatch.setenv("EDGE_MCP_MAX_MESSAGE_MB", "8")
    words = ["--lanes", "2", "--models", "/a", "--models", "/b", "--file-root", "/c", "--insecure"]
    config = serve.settings(serve.parser().parse(words))
    assert (config.lanes, config.max_message_mb, config.insecure) == (2, 8, True)
    assert (config.models, config.file_roots) == (("/a", "/b"), ("/c",))


def logged(level: str) -> list[str]:
    """What comes out on standard error when something fails unexpectedly, and what the engine is told."""
    script = f"""
import logging, os
from edge_mcp.cli import serve
serve.log({level!r})
logging.getLogger("edge_mcp.x").info("so far so good")
try:
    raise ValueError("two\\nlines")
except ValueError:
    logging.getLogger("edge_mcp.x").exception("it %s", "failed")
print(os.environ["EDGE_MCP_LOG_LEVEL"])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert ran.stdout == f"{level}\n"
    return ran.stderr.splitlines()


def test_what_is_logged_is_one_line_without_a_traceback() -> None:
    assert logged("warning") == ["edge-mcp: it failed: ValueError: two lines"]
    assert logged("info")[0] == "edge-mcp: so far so good"


def test_the_debug_log_has_names_and_tracebacks() -> None:
    lines = logged("debug")
    assert lines[:3] == ["edge_mcp.x: so far so good", "edge_mcp.x: it failed", "Traceback (most recent call last):"]
    assert lines[-2:] == ["ValueError: two", "lines"]


def test_debug_goes_over_the_log_level() -> None:
    assert serve.settings(serve.parser().parse(["--debug", "--log-level", "error"])).log_level == "debug"
