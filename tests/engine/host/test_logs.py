"""What the engine logs."""

import os
import subprocess
import sys

import pytest

LOG = """
import logging, os
from edge_mcp.engine.host.logs import write_logs
write_logs(os.environ["EDGE_MCP_LOG_LEVEL"])
logging.info("ready")
try:
    {}["x"]
except KeyError:
    logging.exception("a call failed")
logging.warning("two\\nlines")
"""


def logged(level: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOG],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "EDGE_MCP_LOG_LEVEL": level},
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize("level", ["info", "warning"])
def test_an_exception_is_one_line(level: str) -> None:
    ready = ["engine: ready"] if level == "info" else []
    assert logged(level) == [*ready, "engine: a call failed: KeyError: 'x' (<string>:7)", "engine: two lines"]


def test_debug_shows_the_traceback() -> None:
    assert any(line.startswith("Traceback") for line in logged("debug"))
