"""`edge-mcp hosts`: what is printed and written for each host, and what is never lost."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.cli.hosts import configuration, hosts, write
from edge_mcp.client.resolve import Target
from edge_mcp.errors import ConfigError
from tests.cli.command import Ran, edge_mcp

URL = "ws://192.168.1.31:8765/mcp"
KITCHEN = Target("kitchen-3f2a", "3f2a" * 4, URL, "secret-token-0123456789")
ENTRY: dict[tuple[str, ...], Any] = {("mcpServers", "kitchen"): {"command": "edge-mcp", "args": ["connect", "kitchen"]}}


@pytest.mark.parametrize("word", list(hosts()))
def test_every_host_starts_the_bridge_and_its_file_has_no_token(word: str) -> None:
    host = hosts()[word]
    entries = configuration(host, word, "kitchen-3f2a", KITCHEN)
    assert list(entries) == [("servers" if word == "vscode" else "mcpServers", "kitchen-3f2a")]
    (entry,) = entries.values()
    assert entry["args"][-2:] == ["connect", "kitchen-3f2a"]
    assert Path(entry["command"]).is_absolute()
    assert KITCHEN.token not in json.dumps(entry)


def test_a_token_file_is_named_by_its_whole_path() -> None:
    (entry,) = configuration(hosts()["cursor"], "cursor", "kitchen", KITCHEN, "token").values()
    assert entry["args"][-2:] == ["--token-file", str(Path.cwd() / "token")]


@pytest.mark.parametrize(
    ("word", "bearer"),
    [
        ("claude-code", "Bearer ${EDGE_MCP_TOKEN}"),
        ("cursor", "Bearer ${env:EDGE_MCP_TOKEN}"),
        ("vscode", "Bearer ${input:edge-mcp-token}"),
    ],
)
def test_hosts_that_can_connect_by_themselves_refer_to_the_token(word: str, bearer: str) -> None:
    entries = configuration(hosts()[word], word, "kitchen-3f2a", KITCHEN, direct=True)
    entry = entries[hosts()[word].key, "kitchen-3f2a"]
    assert entry["url"] == "http://192.168.1.31:8765/mcp"
    assert entry["headers"] == {"Authorization": bearer}
    assert (("inputs",) in entries) == (word == "vscode")


@pytest.mark.parametrize(
    ("word", "url", "why"),
    [("claude-desktop", URL, "cannot connect by itself"), ("cursor", "wss://a:1/mcp", "would not trust the certificate")],
)
def test_who_cannot_connect_by_itself_is_told(word: str, url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        configuration(hosts()[word], word, "kitchen", Target("kitchen", "1" * 16, url), direct=True)


def test_a_file_is_made_and_kept_beside_itself(tmp_path: Path) -> None:
    file = tmp_path / "new/mcp.json"
    assert write(file, ENTRY) == f"{file} is written"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"mcpServers": {"kitchen": ENTRY["mcpServers", "kitchen"]}}
    file.chmod(0o644)
    before = file.read_bytes()
    other: dict[tuple[str, ...], Any] = {("mcpServers", "hall"): {"command": "x"}}
    assert write(file, other) == f"{file} is written; what it was is in {file}.bak"
    assert (tmp_path / "new/mcp.json.bak").read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o644
    assert write(file, other) == f"{file} has it already"
    assert sorted(path.name for path in file.parent.iterdir()) == ["mcp.json", "mcp.json.bak"]


@pytest.mark.parametrize("content", [b"{ // comments\n}", b"\xff\xfe{}", b'{"mcpServers": 1}', b"[]"])
def test_a_file_that_is_not_understood_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is left as it is: "):
        write(file, ENTRY)
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_no_file_or_not_to_be_written_stays_as_it_is(tmp_path: Path) -> None:
    locked, pipe, loop = tmp_path / "locked.json", tmp_path / "pipe.json", tmp_path / "loop.json"
    locked.write_bytes(b"{}")
    locked.chmod(0o444)
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for file, why in ((locked, "it is read-only"), (pipe, "it is no file"), (loop, "cannot be read")):
        with pytest.raises(ConfigError, match=why):
            write(file, ENTRY)
    assert locked.read_bytes() == b"{}"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_stays_one_and_a_mark_at_the_start_too(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_bytes(b"\xef\xbb\xbf{}\r\n")
    (tmp_path / "mcp.json").symlink_to("real.json")
    write(tmp_path / "mcp.json", ENTRY)
    assert (tmp_path / "mcp.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes().startswith(b"\xef\xbb\xbf{")
    assert (tmp_path / "real.json").read_bytes().endswith(b"}\r\n")


def test_questions_of_vs_code_are_added_once(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"inputs": [{"id": "mine", "type": "promptString"}]}')
    for name in ("kitchen", "hall"):
        write(file, configuration(hosts()["vscode"], "vscode", name, Target(name, "", URL), direct=True))
    written = json.loads(file.read_text())
    assert [one["id"] for one in written["inputs"]] == ["mine", "edge-mcp-token"]
    assert sorted(written["servers"]) == ["hall", "kitchen"]


def command(home: Path, *words: str) -> Ran:
    return edge_mcp("hosts", *words, cwd=home, HOME=str(home), XDG_CONFIG_HOME=str(home / "config"))


def test_the_command_prints_all_and_writes_one(tmp_path: Path) -> None:
    shown = command(tmp_path, URL)
    assert shown.status == 0, shown.err
    for title in ("Claude Desktop (", "Claude Code (", "Cursor (", "VS Code ("):
        assert title in shown.out
    assert not list(tmp_path.iterdir())
    for word, file in (
        ("claude-desktop", "config/Claude/claude_desktop_config.json"),
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
    ):
        ran = command(tmp_path, URL, "--for", word, "--write")
        assert ran.status == 0, ran.err
        assert (tmp_path / file).is_file()
    failed = command(tmp_path, URL, "--write").failed()
    assert failed == "--write needs to know the host. Add --for claude-desktop|claude-code|cursor|vscode"
    assert "is no device. Write its name" in command(tmp_path, "http://x/mcp").failed()


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file"
    else:
        folder = tmp_path / "closed"
        folder.mkdir(0o500)
    with pytest.raises(ConfigError, match=r"cannot be (written|read): "):
        write(folder / "mcp.json", ENTRY)
