"""How the engine writes to its log, which is the server's standard error."""

import logging
import sys
import traceback
from pathlib import Path

from edge_mcp.engine.host.runtimes.checks import one_line
from edge_mcp.repeats import Repeats


def write_logs(level: str) -> None:
    """Log from `level` (debug, info …) on to standard error: one line each, and tracebacks only at debug."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("engine: %(message)s") if level.lower() == "debug" else _OneLine())
    if level.lower() != "debug":
        handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _OneLine(logging.Formatter):
    """The message; of an exception its kind, its reason and where it was raised."""

    def format(self, record: logging.LogRecord) -> str:
        text = "engine: " + _printable(" ".join(record.getMessage().splitlines()))
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return text
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        return f"{text}: {type(error).__name__}: {_printable(one_line(error))}{where}"


def _printable(text: str) -> str:
    """Without what a terminal would take for a command: names in model files get here."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
