"""`edge-mcp call`."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

import edge_mcp
from edge_mcp.cli.arguments import Given, converted, given, nearest, pair, seconds
from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable, rendered
from edge_mcp.client.client import Client
from edge_mcp.client.messages import ListedTool
from edge_mcp.client.result import Result
from edge_mcp.config import load
from edge_mcp.errors import CallError, ConfigError
from edge_mcp.transports.base import Connection

_CLEAR_LINE = "\r\x1b[K"


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "call",
        "Call a tool and show what it answers; without --url on a server that is started for this.",
        "edge-mcp call detect_objects image=@photo.jpg --save seen.png",
    )
    parser.add_argument("tool", metavar="TOOL", help="the tool's name; edge-mcp models lists those that are here")
    value_help = "an argument; @FILE is the content of a file, @- standard input, @@x the text @x"
    parser.add_argument("arguments", metavar="key=value", nargs="*", default=[], type=pair, help=value_help)
    parser.add_argument("--url", metavar="URL", help="server to call, such as ws://127.0.0.1:8765/mcp")
    parser.add_argument("--on", metavar="NAME", dest="on", help="device to call, by its name in the network")
    parser.add_argument("--token-file", metavar="FILE", default="", help="the token that the server asks for")
    parser.add_argument("--json", action="store_true", help="print structuredContent as JSON")
    parser.add_argument("--save", metavar="FILE", type=Path, help="write the picture that the tool answers, a PNG")
    parser.add_models()
    parser.add_argument("--sensor", metavar="NAME=URL", action="append", help="a sensor of the server that is started")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="give up after this long")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Call, and show the answer. Raises: EdgeError."""
    # asyncio's own warnings (a child that is gone before it was waited for) are no news for whoever pressed Ctrl-C.
    logging.basicConfig(level="DEBUG" if options.debug else "CRITICAL")
    _check_save(options.save)
    if options.on and options.url:
        raise ConfigError("--on and --url do not go together", "Name the device with one of them")
    options.url = options.on or options.url
    values = given(options.arguments)
    if options.url is None:
        from edge_mcp.cli.models.changed import take_in_changed

        # What is wrong with the settings is told by this process.
        take_in_changed(load(options.config, {"models": options.models, "sensors": options.sensor}), options.debug)
    result = asyncio.run(_answer(options, values))
    if error := result.refusal(options.tool):
        raise error
    # The picture first: whoever reads the output may stop reading.
    missing = options.save is not None and not _save(result, options.save)
    print(_as_json(result) if options.json else _as_text(result))
    if missing:
        raise CallError(f"{options.tool} answered no picture, so {options.save} is not written", "Leave --save out")
    return 0


def _check_save(file: Path | None) -> None:
    """Tell before the call what would go wrong after it. Raises: ConfigError."""
    if file is None:
        return
    if file.suffix.lower() not in ("", ".png"):
        raise ConfigError(f"the picture is a PNG, not {file.suffix}", f"Write --save {file.with_suffix('.png')}")
    if not file.parent.is_dir():
        raise ConfigError(f"there is no folder {file.parent} to save {file.name} in", "Make it first")


async def _answer(options: argparse.Namespace, values: dict[str, Given]) -> Result:
    screen = _Screen()
    try:
        async with asyncio.timeout(options.timeout), Client(await _connect(options, screen)) as client:
            tool = _found(options.tool, await client.list_tools())
            arguments = converted(values, tool.inputSchema, tool.name)
            if options.save and "annotate" in (tool.inputSchema.get("properties") or {}):
                arguments.setdefault("annotate", True)
            on_progress = screen.progress if screen.live else None
            return Result(await client.call_tool(tool.name, arguments, on_progress), client.codec)
    except TimeoutError:
        raise CallError(f"no answer within {options.timeout:g} s", "Raise --timeout, or leave it out") from None
    finally:
        screen.clear()


async def _connect(options: argparse.Namespace, screen: "_Screen") -> Connection:
    if options.url is not None:
        from edge_mcp.cli.remote import connected

        screen.progress(0, None, "connecting")
        return await connected(options.url, options.token_file, screen.log)
    from edge_mcp.client.stdio import StdioServer

    screen.progress(0, None, "starting")
    return await StdioServer.start(_server_command(options), screen.log, _server_environment())


def _server_command(options: argparse.Namespace) -> list[str]:
    """A quiet server with the same models and settings."""
    command = [sys.executable, "-P", "-m", "edge_mcp", "serve", "--stdio"]
    command += ["--debug"] if options.debug else ["--log-level", "warning"]
    for folder in options.models or ():
        command.append(f"--models={folder}")
    for sensor in options.sensor or ():
        command.append(f"--sensor={sensor}")
    if options.config is not None:
        command.append(f"--config={options.config}")
    return command


def _server_environment() -> dict[str, str]:
    """The server is this very package, wherever it was started from."""
    home = str(Path(edge_mcp.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{inherited}" if inherited else home}


def _found(name: str, tools: Sequence[ListedTool]) -> ListedTool:
    for tool in tools:
        if tool.name == name:
            return tool
    raise CallError(f"there is no tool {name!r}", nearest(name, [tool.name for tool in tools], "There are"))


def _save(result: Result, file: Path) -> bool:
    """Write the first picture to `file`, if there is one. Raises: CallError, ConfigError."""
    for picture in result.images[:1]:
        try:
            file.write_bytes(picture)
        except OSError as error:
            raise ConfigError(f"{file} cannot be written: {error.strerror}", "Save it elsewhere") from error
        return True
    return False


def _as_json(result: Result) -> str:
    encoded = msgspec.json.encode(result.content if result.structured is None else result.structured)
    return (msgspec.json.format(encoded, indent=2) if sys.stdout is not None and sys.stdout.isatty() else encoded).decode()


def _as_text(result: Result) -> str:
    if isinstance(result.structured, dict):
        return rendered(result.structured)
    return "\n".join(printable(line) for line in result.text.splitlines()) or "The tool answered no text."


class _Screen:
    """Standard error: one line of progress that rewrites itself when a person watches, and the server's log."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._dirty = False

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Show what is happening."""
        if self.live:
            print(f"{_CLEAR_LINE}{printable(message)} …", end="", file=sys.stderr, flush=True)
            self._dirty = True

    def log(self, line: str) -> None:
        """A line that stays."""
        self.clear()
        print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the progress away."""
        if self._dirty:
            print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)
            self._dirty = False
