"""SIGHUP on a real server: settings that are read anew, and a connection that stays."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_mcp.config import LIVE, Config, taken_up
from edge_mcp.reloading import reloading
from edge_mcp.systemd import Manager
from tests.processes import Served, serving

FIRST, SECOND = "first-token-of-the-device", "second-token-of-the-device"


def configure(folder: Path, token: str, **settings: Any) -> None:
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    settings = {"listen": "127.0.0.1:0", "token_file": str(folder / "token"), **settings}
    (folder / "edge-mcp.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))


async def reloaded(served: Served, word: str) -> None:
    """Send SIGHUP, and wait for a line in the log."""
    before = len(served.log)
    os.kill(served.pid, signal.SIGHUP)
    async with asyncio.timeout(60):
        while not any(word in line for line in served.log[before:]):
            await asyncio.sleep(0.02)


async def admitted(served: Served, token: str, host: str = "127.0.0.1") -> int:
    """The HTTP status of a request with this token, for this name."""
    url = served.url.replace("ws://", "http://").removesuffix("/mcp") + "/metrics"
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {token}", "Host": host}
        async with session.get(url, headers=headers) as answer:
            return answer.status


async def until_admitted(served: Served, token: str) -> None:
    async with asyncio.timeout(60):
        while await admitted(served, token) != 200:
            await asyncio.sleep(0.02)


async def greeted(socket: aiohttp.ClientWebSocketResponse) -> int:
    """Open a conversation; the milliseconds of silence until this peer is pinged."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    await socket.send_str(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}))
    answer = json.loads((await socket.receive(timeout=60)).data)
    interval: int = answer["result"]["_meta"]["io.edge-mcp/keepalive"]["intervalMs"]
    return interval


async def test_settings_are_taken_up_while_a_connection_stays(tmp_path: Path) -> None:
    configure(tmp_path, FIRST, log_level="info")
    async with serving("--config", str(tmp_path / "edge-mcp.toml")) as served, aiohttp.ClientSession() as session:
        bearer = {"Authorization": f"Bearer {FIRST}"}
        async with session.ws_connect(served.url, protocols=["mcp"], headers=bearer) as socket:
            assert await admitted(served, FIRST) == 200
            assert await admitted(served, FIRST, "den.home") == 421
            configure(tmp_path, SECOND, hosts=["den.home"], log_level="debug", keepalive_s=12)
            os.kill(served.pid, signal.SIGHUP)
            await until_admitted(served, SECOND)
            assert await admitted(served, FIRST) == 401
            assert await admitted(served, SECOND, "den.home") == 200
            assert await greeted(socket) == 45_000
            call = {"name": "detect_language", "arguments": {"text": "Wo ist der Bahnhof?"}}
            await socket.send_str(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}))
            assert "result" in json.loads((await socket.receive(timeout=60)).data)
            assert any("started with" in line for line in served.log)  # which is said of an engine at debug only
        bearer = {"Authorization": f"Bearer {SECOND}"}
        async with session.ws_connect(served.url, protocols=["mcp"], headers=bearer) as socket:
            assert await greeted(socket) == 12_000


async def test_what_needs_a_restart_is_told(tmp_path: Path) -> None:
    configure(tmp_path, FIRST)
    async with serving("--config", str(tmp_path / "edge-mcp.toml")) as served:
        configure(tmp_path, FIRST, lanes=1, max_message_mb=1, hosts=["den.home"])
        await reloaded(served, "these settings take effect after a restart: lanes, max_message_mb")
        assert await admitted(served, FIRST, "den.home") == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("lanes = [", "is not valid TOML"),
        (f"hosts = {'[' * 5000}", "is not valid TOML"),
        (f"lanes = {'1' * 5000}", "is not valid TOML"),
        ('listen = "127.0.0.1:²"', "Write HOST:PORT"),
        ('lanse = 1\nlisten = "127.0.0.1:0"', "unknown setting 'lanse'. Did you mean 'lanes'?"),
        ('listen = "127.0.0.1:0"\ntoken_file = "/there/is/none"', "the token file /there/is/none cannot be read"),
    ],
)
async def test_settings_that_are_wrong_change_nothing(content: str, said: str, tmp_path: Path) -> None:
    configure(tmp_path, FIRST)
    async with serving("--config", str(tmp_path / "edge-mcp.toml")) as served:
        (tmp_path / "edge-mcp.toml").write_text(content)
        await reloaded(served, "the settings stay as they were: ")
        assert said in served.log[-1]
        assert await admitted(served, FIRST) == 200
        configure(tmp_path, SECOND)
        os.kill(served.pid, signal.SIGHUP)
        await until_admitted(served, SECOND)


async def test_fewer_connections_and_requests_are_allowed_from_then_on(tmp_path: Path) -> None:
    configure(tmp_path, FIRST)
    async with serving("--config", str(tmp_path / "edge-mcp.toml")) as served:
        configure(tmp_path, SECOND, max_requests_per_s=1)
        os.kill(served.pid, signal.SIGHUP)
        async with asyncio.timeout(60):
            while await admitted(served, SECOND) != 429:
                await asyncio.sleep(0.01)


def test_only_live_settings_are_taken_up() -> None:
    before, after = Config(), Config(listen="127.0.0.1:1", lanes=2, hosts=("den.home",), log_level="debug")
    now, later = taken_up(before, after)
    assert later == ["listen", "lanes"]
    assert now == Config(hosts=("den.home",), log_level="debug")
    assert taken_up(now, after)[1] == ["listen", "lanes"]  # as long as it was not restarted
    assert {field for field in LIVE if not hasattr(Config(), field)} == set()


class Heard(Manager):
    """What systemd would hear."""

    def __init__(self) -> None:
        super().__init__({})
        self.said: list[str] = []

    def _say(self, *lines: str) -> None:
        self.said.append(lines[0])


async def test_no_start_is_over_before_it_is_and_no_failure_ends_reloading(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: False)
    up, manager = asyncio.Event(), Heard()
    rescans: list[int] = []

    async def fails(reread: Callable[[], Config]) -> Config:
        raise LookupError(reread().name)

    async def status() -> str:
        return "8 tools"

    with reloading(fails, status, lambda: rescans.append(1), manager, up, Config):
        os.kill(os.getpid(), signal.SIGHUP)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not manager.said
        up.set()
        async with asyncio.timeout(60):
            while len(manager.said) < 2:
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGHUP)
            while len(manager.said) < 4:
                await asyncio.sleep(0)
    assert manager.said == ["RELOADING=1", "READY=1"] * 2
    assert len(rescans) == 2
    assert caplog.text.count("the settings could not be taken up") == 2
