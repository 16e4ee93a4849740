"""`edge-mcp token`, and a server that asks for it."""

import asyncio
import json
import re
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_mcp.cli.remote import token_for
from tests.cli.command import Ran, edge_mcp
from tests.processes import serving


@pytest.fixture
def home(tmp_path: Path) -> dict[str, Any]:
    return {"XDG_DATA_HOME": str(tmp_path), "STATE_DIRECTORY": ""}


def token_in(ran: Ran) -> str:
    assert (ran.status, ran.err) == (0, ""), ran
    found = re.search(r"^token: (\S+)$", ran.out, re.MULTILINE)
    assert found
    return found[1]


def test_it_is_made_once_and_shown_again(home: dict[str, Any]) -> None:
    assert edge_mcp("token", "--show", **home).failed() == "there is no token. Make one: edge-mcp token"
    made = edge_mcp("token", **home)
    token = token_in(made)
    assert "A new token is in" in made.out
    file = Path(home["XDG_DATA_HOME"]) / "edge-mcp/token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for again in (edge_mcp("token", **home), edge_mcp("token", "--show", **home)):
        assert token_in(again) == token
        assert "new token" not in again.out
    assert token_in(edge_mcp("token", "--new", **home)) != token


def test_it_says_what_to_paste(home: dict[str, Any]) -> None:
    ran = edge_mcp("token", EDGE_MCP_LISTEN="0.0.0.0:1234", **home)
    token = token_in(ran)
    assert re.search(
        rf'claude mcp add --transport http edge http://\S+\.local:1234/mcp --header "Authorization: Bearer {token}"', ran.out
    )
    cursor, code = (json.loads(block) for block in re.findall(r"^  \{.*?^  \}", ran.out, re.MULTILINE | re.DOTALL))
    assert cursor["mcpServers"]["edge"]["headers"] == {"Authorization": f"Bearer {token}"}
    assert code["servers"]["edge"]["type"] == "http"


def test_what_does_not_go_is_one_line(home: dict[str, Any], tmp_path: Path) -> None:
    assert edge_mcp("token", "--new", "--show", **home).failed() == "--new and --show do not go together"
    named: dict[str, Any] = {"EDGE_MCP_TOKEN_FILE": str(tmp_path / "mine")}
    assert "Change it there" in edge_mcp("token", "--new", **home, **named).failed()
    assert "EDGE_MCP_TOKEN. Change" in edge_mcp("token", "--new", **home, EDGE_MCP_TOKEN="x" * 16).failed()
    assert "cannot be read" in edge_mcp("token", **home, **named).failed()
    (tmp_path / "mine").write_text("a-token-that-all-may-read")
    (tmp_path / "mine").chmod(0o644)
    assert "chmod 600" in edge_mcp("serve", "--listen", "127.0.0.1:0", **home, **named).failed()


async def test_a_server_with_a_token_listens_beyond_this_machine_and_asks_for_it(home: dict[str, Any]) -> None:
    token = token_in(edge_mcp("token", **home))
    async with serving("--listen", "0.0.0.0:0", **home) as served, aiohttp.ClientSession() as http:
        url = served.url.replace("ws://0.0.0.0", "http://127.0.0.1")
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        accept = {"Accept": "application/json, text/event-stream"}
        async with http.post(url, json=ping, headers=accept) as response:
            assert response.status == 401
        async with http.post(url, json=ping, headers=accept | {"Authorization": f"Bearer {token}"}) as response:
            assert response.status == 400  # no session: but in
        async with http.get(url.replace("/mcp", "/health")) as response:
            assert (await response.json())["ready"] is True
        environment = Path(f"/proc/{served.process.pid}/environ").read_bytes()
        assert token.encode() not in environment
    assert token not in "\n".join(served.log)


async def test_a_token_of_the_environment_does_not_reach_the_engine(home: dict[str, Any]) -> None:
    token = "a-token-from-the-environment"  # noqa: S105
    async with serving("--stdio", "--listen", "127.0.0.1:0", **home, EDGE_MCP_TOKEN=token) as served:
        assert (await served.call("detect_language", text="Wo ist der Bahnhof?"))["structuredContent"]
        engine = served.engine_pid()
        assert engine is not None
        assert token.encode() not in Path(f"/proc/{engine}/environ").read_bytes()


async def test_a_call_shows_the_token_to_its_own_device_only(home: dict[str, Any], tmp_path: Path) -> None:
    token_in(edge_mcp("token", **home))
    ask = ("call", "detect_language", "text=Wo ist der Bahnhof?", "--json", "--url")
    async with serving("--listen", "127.0.0.1:0", **home) as served:
        assert json.loads((await asyncio.to_thread(edge_mcp, *ask, served.url, **home)).out)["label"] == "de"
        other: dict[str, Any] = {"XDG_DATA_HOME": str(tmp_path / "other")}
        refused = await asyncio.to_thread(edge_mcp, *ask, served.url, **other)
        assert refused.failed() == f"{served.url} wants another token. Name the file that has it with --token-file"
        named = ("--token-file", str(tmp_path / "edge-mcp/token"))
        assert json.loads((await asyncio.to_thread(edge_mcp, *ask, served.url, *named, **other)).out)["label"] == "de"
    assert token_for("", "ws://device.local/mcp") == ""


@pytest.mark.parametrize("url", ["ws://[", "nonsense", ""])
def test_a_url_that_is_none_gets_no_token(url: str) -> None:
    assert edge_mcp("call", "detect_language", "text=x", "--url", url).failed()
