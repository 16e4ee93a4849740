"""What a server says on standard error, and the streams that it was started with."""

import contextlib
import logging
import os
import sys

from edge_mcp.cli.render import printable
from edge_mcp.config import PREFIX
from edge_mcp.errors import ConfigError
from edge_mcp.repeats import Repeats


def log(level: str) -> None:
    """Log to standard error from `level` on, in this process and in the engine that it will start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s") if level == "debug" else _OneLine())
    if level != "debug":  # who debugs wants to see all
        handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    os.environ[f"{PREFIX}LOG_LEVEL"] = level


class _OneLine(logging.Formatter):
    """What went wrong in the line itself, without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            line += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        return "edge-mcp: " + printable(line)


def check_streams() -> None:
    """Before anything else takes the numbers 0 and 1, which whoever started this may have closed. Raises: ConfigError."""
    for number, name in enumerate(("input", "output")):
        try:
            os.fstat(number)
        except OSError as error:
            raise ConfigError(f"standard {name} is closed", "Without --stdio it is not needed") from error


def say(line: str) -> None:
    """One line, if anybody listens."""
    with contextlib.suppress(OSError):  # nobody has to listen
        print(line, file=sys.stderr, flush=True)


def ignore(line: str) -> None:
    """For who wants to hear nothing."""
