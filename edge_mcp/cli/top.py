"""`edge-mcp top`: a running server, watched in the terminal."""

import argparse
import asyncio
import signal
import sys
from typing import TypeVar

import msgspec

from edge_mcp.cli.arguments import seconds
from edge_mcp.cli.options import Parser
from edge_mcp.cli.page import Load, Status, page
from edge_mcp.cli.remote import connected
from edge_mcp.cli.render import printable
from edge_mcp.cli.screen import draw, other_screen
from edge_mcp.client.client import Client
from edge_mcp.errors import CallError, ConnectionClosed

URL = "ws://127.0.0.1:8765/mcp"
ANSWER_S = 10.0
_SIGTERM_STATUS = 143

T = TypeVar("T")


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "top",
        "Watch a running server: state and why, signals, budget, memory, models and what waits. Ctrl-C ends it.",
        "edge-mcp top --url ws://pi.local:8765/mcp --token-file token",
    )
    parser.add_argument("--url", metavar="URL", default=URL, help=f"the server, by default {URL}")
    parser.add_argument("--token-file", metavar="FILE", default="", help="the token that the server asks for")
    parser.add_argument("--interval", metavar="S", type=seconds, default=2.0, help="seconds between two looks, by default 2")
    parser.add_argument("--once", action="store_true", help="print one page and end; so it does where output is no terminal")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Watch until Ctrl-C or SIGTERM. Raises: EdgeError."""
    try:
        asyncio.run(_watch(options))
    except asyncio.CancelledError:
        return _SIGTERM_STATUS
    return 0


async def _watch(options: argparse.Namespace) -> None:
    """Raises: EdgeError."""
    async with Client(await connected(options.url, options.token_file, _say)) as client:
        if options.once or not sys.stdout.isatty():
            print("\n".join(await _look(client, options.url, False)))
            return
        first = await _look(client, options.url, True)
        task = asyncio.current_task()
        assert task is not None, "this is one"  # noqa: S101
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with other_screen():
            draw(first)
            while True:
                await asyncio.sleep(options.interval)
                draw(await _look(client, options.url, True))


def _say(line: str) -> None:
    print(f"edge-mcp: {printable(line)}", file=sys.stderr, flush=True)


async def _look(client: Client, url: str, colours: bool) -> list[str]:
    """Raises: CallError, ConnectionClosed."""
    try:
        async with asyncio.timeout(ANSWER_S):
            load = _decoded((await client.read("device://load")).text, Load)
            status = _decoded((await client.read("device://status")).text, Status)
    except TimeoutError:
        raise CallError(f"{url} did not answer within {ANSWER_S:g} s") from None
    except ConnectionClosed:
        raise
    except CallError as error:
        raise CallError(f"{url} does not tell how it is: {error}", "It has to be an edge-mcp that serves models") from error
    return page(url, load, status, colours)


def _decoded(text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CallError(f"it tells something else than expected: {error}") from error
