"""The command line: finds the command, and turns every error into one line."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from edge_mcp import __version__
from edge_mcp.errors import EdgeError

# What is not asked for is never imported: a server carries no client.
COMMANDS = {
    "serve": "serve the models as MCP tools, over stdio, HTTP or WebSockets",
    "call": "call a tool, here or on another server, and show what it answers",
    "gateway": "serve many devices as one",
    "connect": "let a host that only speaks stdio use a device on the network",
    "discover": "find the devices in this network",
    "hosts": "print or write what a host's configuration needs to use a device",
    "pair": "let a device and this machine know each other, by six digits",
    "models": "look after the models: list, show, add, use …",
    "top": "watch a running server: its load, models and queue",
    "doctor": "look at this device: what may be wrong, and what to do",
    "token": "make the token that peers on the network have to show",
}
HELP = f"""usage: edge-mcp COMMAND …

Quantized ONNX and LiteRT models as MCP tools.

commands (edge-mcp COMMAND --help says more):
{"".join(f"  {name:<9}{text}{chr(10)}" for name, text in COMMANDS.items())}
options:
  --help, -h  show this
  --version   show the version

example:
  edge-mcp call detect_objects image=@photo.jpg"""

# What a write says when there is no room for it, or the device is no good.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and end the process: 0 when all is well, 1 on an error, 2 on wrong usage, 130 on Ctrl-C.

    Raises: SystemExit, and nothing else.
    """
    _open_stderr()
    words = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_guarded(words))


def _open_stderr() -> None:
    """Where whoever started this closed standard error, what is said there goes nowhere, and no other file gets its number."""
    try:
        os.fstat(2)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # children have it too
        if null != 2:
            os.close(null)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _guarded(words: list[str]) -> int:
    try:
        status = _run(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except EdgeError as error:
        return _failed(str(error), words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()  # nobody reads any more
        return 141
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug, shown in one line too
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _drop_output()
            return _failed(f"the output cannot be written: {error.strerror}", words)
        hint = "" if "--debug" in words else ". Run it again with --debug to see where"
        return _failed(f"internal error: {type(error).__name__}: {error}{hint}", words)


def _drop_output() -> None:
    """The interpreter would complain when it flushes on exit: give it something that takes all."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run(words: list[str]) -> int:
    if not words:
        print(HELP, file=sys.stderr)
        return 2
    if words[0] in ("--help", "-h"):
        print(HELP)
        return 0
    if words[0] == "--version":
        print(f"edge-mcp {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(f"edge-mcp: there is no command {words[0]!r}. See edge-mcp --help", file=sys.stderr)
        return 2
    command = import_module(f"edge_mcp.cli.{words[0]}")
    status: int = command.run(command.parser().parse(words[1:]))
    return status


def _failed(message: str, words: list[str]) -> int:
    if "--debug" in words:
        import traceback

        traceback.print_exc()
    line = " ".join(message.split())
    print("edge-mcp:", "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line), file=sys.stderr)
    return 1
