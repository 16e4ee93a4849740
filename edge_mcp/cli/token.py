"""`edge-mcp token`."""

import argparse
import json
import os
import socket
import time
from typing import Any

from edge_mcp import tokens
from edge_mcp.cli.options import Parser
from edge_mcp.config import data_folder, load, tls_folder
from edge_mcp.errors import ConfigError

_ALL = ("*", "0.0.0.0", "::")  # noqa: S104 - recognised, not listened on


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "token",
        "Make the token that peers on the network have to show, unless there is one, and say what to paste into hosts.",
        "edge-mcp token --show",
    )
    parser.add_argument("--new", action="store_true", help="make a new one: who has the old one has to be told")
    parser.add_argument("--show", action="store_true", help="show the one there is, and make none")
    parser.add_argument("--list", action="store_true", help="list the hosts that are paired with this device")
    parser.add_argument("--revoke", metavar="NAME", help="withdraw the token of a host that is paired with it")
    parser.add_config()
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Make or show the token. Raises: EdgeError."""
    if options.new and options.show:
        raise ConfigError("--new and --show do not go together")
    if options.list or options.revoke:
        return _paired(options.revoke)
    config = load(options.config)
    made = _made(options.new, options.show, config.token_file)
    token = made or tokens.find(config.token_file)
    if options.show and not token:
        raise ConfigError("there is no token", "Make one: edge-mcp token")
    print(hosts(token, url(*config.address(), config.tls)))
    if config.tls:
        from edge_mcp.transports import tls

        shown = tls.of(config.tls_certificate, config.tls_key, tls_folder())
        print(f"\ncertificate: {shown.fingerprint}\n  in {shown.certificate}")
    if made:
        file = tokens.own_file()
        takes = "when it is reloaded or starts again" if file.parent == data_folder() else "by: systemctl restart edge-mcp"
        print(f"\nA new token is in {file}. A server that runs already takes it {takes}.")
    return 0


def _paired(revoke: str | None) -> int:
    """List the paired hosts, or withdraw the token of one. Raises: ConfigError."""
    from edge_mcp.pairing.hosts import PairedHosts

    hosts = PairedHosts()
    if revoke and not hosts.remove(revoke):
        names = ", ".join(host.name for host in hosts.all()) or "none"
        raise ConfigError(f"no host {revoke[:100]!r} is paired with this device", f"Those that are: {names}")
    for host in hosts.all():
        print(f"{host.name}  paired {time.strftime('%Y-%m-%d %H:%M', time.localtime(host.paired))}")
    return 0


def _made(new: bool, show: bool, token_file: str) -> str:
    """A new token, if one is to be made."""
    elsewhere = f"of token_file, {token_file}" if token_file else f"in {tokens.VARIABLE}"
    if new and (token_file or tokens.VARIABLE in os.environ):
        raise ConfigError(f"the token is the one {elsewhere}", "Change it there, or take that setting away")
    if new or not (show or tokens.find(token_file)):
        return tokens.make(tokens.own_file())
    return ""


def url(host: str, port: int, tls: bool = False) -> str:
    """The address of the MCP endpoint, as hosts on the network would write it."""
    if host in _ALL:
        host = socket.gethostname().partition(".")[0] + ".local"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/mcp"


def hosts(token: str, url: str) -> str:
    """What to paste into hosts."""
    bearer = {"Authorization": f"Bearer {token}"}
    cursor = {"mcpServers": {"edge": {"url": url, "headers": bearer}}}
    code = {"servers": {"edge": {"type": "http", "url": url, "headers": bearer}}}
    return f"""token: {token}

Claude Code:
  claude mcp add --transport http edge {url} --header "Authorization: Bearer {token}"

Cursor (~/.cursor/mcp.json):
{_indented(cursor)}

VS Code (.vscode/mcp.json):
{_indented(code)}"""


def _indented(value: Any) -> str:
    return "\n".join("  " + line for line in json.dumps(value, indent=2).splitlines())
