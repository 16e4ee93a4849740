"""`edge-mcp hosts`: what to put into a host's configuration, so that it uses a device."""

import argparse
import asyncio
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mcp.cli.options import Parser
from edge_mcp.cli.splice import spliced
from edge_mcp.client.known import KnownDevices
from edge_mcp.client.resolve import PATIENCE_S, Target, is_name, labels, resolve
from edge_mcp.errors import ConfigError
from edge_mcp.tokens import VARIABLE

_MAX_FILE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Host:
    """A program with a configuration of its own: its name, the file, the object in it that has the servers."""

    title: str
    file: Path
    key: str
    reference: str = ""
    """How the file refers to the variable with the token; empty where it cannot, or the host speaks stdio only."""


def hosts() -> dict[str, Host]:
    """Those that are known, by the word for them."""
    mac = sys.platform == "darwin"
    settings = Path.home() / "Library/Application Support" if mac else Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    return {
        "claude-desktop": Host("Claude Desktop", settings.expanduser() / "Claude/claude_desktop_config.json", "mcpServers"),
        "claude-code": Host("Claude Code", Path(".mcp.json"), "mcpServers", f"${{{VARIABLE}}}"),
        "cursor": Host("Cursor", Path.home() / ".cursor/mcp.json", "mcpServers", f"${{env:{VARIABLE}}}"),
        "vscode": Host("VS Code", Path(".vscode/mcp.json"), "servers", "${input:edge-mcp-token}"),
    }


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "hosts",
        "Print, or write, what a host's configuration needs to use a device: the command that connects to it by its name.",
        "edge-mcp hosts kitchen-3f2a --for cursor --write",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the device, or its address; not needed where there is one")
    parser.add_argument("--for", metavar="HOST", choices=[*hosts()], dest="host", help=f"one of {', '.join(hosts())}")
    parser.add_argument("--write", action="store_true", help="into the host's file, which keeps all else that it has")
    parser.add_argument("--token-file", metavar="FILE", default="", help="the token that the device asks for, if not paired")
    parser.add_argument("--direct", action="store_true", help="let the host connect by itself, over HTTP without TLS")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Print or write. Raises: ConfigError."""
    if options.write and not options.host:
        raise ConfigError("--write needs to know the host", f"Add --for {'|'.join(hosts())}")
    name, target = asyncio.run(_named(options.name))
    known = hosts()
    for word in [options.host] if options.host else known:
        host = known[word]
        if options.direct and not host.reference and not options.host:
            continue
        entries = configuration(host, word, name, target, options.token_file, options.direct)
        if options.write:
            print(write(host.file, entries))
        else:
            print(f"{host.title} ({host.file}):\n{_indented(entries)}\n")
    return 0


async def _named(name: str | None) -> tuple[str, Target]:
    """The device, and how to write it. Raises: ConfigError."""
    if name and not is_name(name):
        if not name.startswith(("ws://", "wss://")):
            raise ConfigError(f"{name!r} is no device", "Write its name (edge-mcp discover), or ws://HOST:PORT/mcp")
        return name, Target(re.split("[/:]+", name)[1], "", name)
    return (name, await resolve(name)) if name else await _only()


async def _only() -> tuple[str, Target]:
    """The one device that there is. Raises: ConfigError."""
    from edge_mcp.client.resolve import target
    from edge_mcp.discovery.browse import Browser

    known = KnownDevices()
    async with Browser() as browser:
        await asyncio.sleep(PATIENCE_S)
        found = list(browser.found.values())
    if len(found) != 1:
        listed = (
            f"There are {', '.join(sorted(labels(found))[:20])}" if found else "edge-mcp discover lists those that there are"
        )
        raise ConfigError("which device?" if found else "no device is found in this network", listed)
    return found[0].name, target(found[0], known)


def configuration(
    host: Host, word: str, name: str, target: Target, token_file: str = "", direct: bool = False
) -> dict[tuple[str, ...], Any]:
    """What the host's file has to have, by path. No token is in it: the command has its own, or reads it from `token_file`;
    with `direct` the host refers to the variable EDGE_MCP_TOKEN, or asks its user. Raises: ConfigError."""
    key = re.sub(r"[^A-Za-z0-9_-]", "-", target.name)[:40] or "edge"
    if not direct:
        command, *words = command_line()
        words += ["connect", name, *(["--token-file", str(Path(token_file).absolute())] if token_file else [])]
        kind = {"type": "stdio"} if word in ("claude-code", "vscode") else {}
        return {(host.key, key): {**kind, "command": command, "args": words}}
    if not host.reference:
        raise ConfigError(f"{host.title} cannot connect by itself", "Leave --direct out")
    if not target.url.startswith("ws://"):
        raise ConfigError(
            f"{host.title} would not trust the certificate of {target.name}", "Leave --direct out: the command does"
        )
    entry = {"url": "http" + target.url.removeprefix("ws"), "headers": {"Authorization": f"Bearer {host.reference}"}}
    if word == "cursor":
        return {(host.key, key): entry}
    entries: dict[tuple[str, ...], Any] = {(host.key, key): {"type": "http", **entry}}
    if word == "vscode":
        question = {"id": "edge-mcp-token", "type": "promptString", "description": "Token of edge-mcp", "password": True}
        entries["inputs",] = [question]
    return entries


def command_line() -> list[str]:
    """How this edge-mcp is started by programs that do not know the shell's paths."""
    started = Path(sys.argv[0])
    if started.name == "edge-mcp" and started.is_file():
        return [str(started.absolute())]
    return [sys.executable, "-m", "edge_mcp"]


def write(file: Path, entries: dict[tuple[str, ...], Any]) -> str:
    """Put the entries into a host's file, whole or not at all; what was there is kept beside it. Says what was done.

    Raises: ConfigError for a file that is no JSON object, which stays as it is, or cannot be written."""
    file = Path(os.path.realpath(file))  # a link stays one
    before = _read(file)
    mark = "\ufeff" if before.startswith("\ufeff") else ""
    text = before[len(mark) :]
    for path, value in entries.items():
        try:
            text = spliced(text, path, _joined(text, path, value))
        except ValueError as error:
            raise ConfigError(f"{file} is left as it is: {error}", "Put it in by hand: leave --write out") from None
    if (text := mark + text) == before:
        return f"{file} has it already"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        backup = file.with_name(f"{file.name}.bak")
        if before:
            _replace(backup, before, file)
        _replace(file, text, file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    return f"{file} is written; what it was is in {backup}" if before else f"{file} is written"


def _joined(text: str, path: Sequence[str], value: Any) -> Any:
    """A list is added to what is there already, as VS Code's questions are."""
    if not isinstance(value, list):
        return value
    there = json.loads(text).get(path[0], []) if text.strip() else []
    if not isinstance(there, list):
        raise ValueError(f"{path[0]!r} is no list")
    ids = [one.get("id") for one in there if isinstance(one, dict)]
    return [*there, *(one for one in value if one["id"] not in ids)]


def _read(file: Path) -> str:
    """Raises: ConfigError."""
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{file} is left as it is: it is no file")
        if not mode & 0o222:  # replacing it would need no more than a folder that may be written
            raise ConfigError(f"{file} is left as it is: it is read-only", "Make it writable, or leave --write out")
        with file.open("rb") as stream:
            content = stream.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE:
        raise ConfigError(f"{file} is left as it is: it is too large")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is left as it is: it is not UTF-8", "Put it in by hand: leave --write out") from None


def _replace(file: Path, text: str, like: Path) -> None:
    """Write a file whole or not at all, for those who may read `like`. Raises: OSError."""
    mode = like.stat().st_mode & 0o777 if like.exists() else 0o600
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _indented(entries: dict[tuple[str, ...], Any]) -> str:
    text = ""
    for path, value in entries.items():
        text = spliced(text, path, value)
    return "\n".join("  " + line for line in text.rstrip().splitlines())
