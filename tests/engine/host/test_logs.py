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

ENGINE = """
import os, socket
from edge_mcp.engine.host import __main__ as engine
from edge_mcp.engine.stages import Stages
def broken(*rest):
    raise KeyError("x")
engine.serve_lane = broken
ours, theirs = socket.socketpair()
engine.main(os.getppid(), Stages.create(1), [theirs.detach()])
"""


def logged(level: str, program: str = LOG) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
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


def test_the_engine_logs_like_this() -> None:
    assert logged("info", ENGINE) == ["engine: lane 0 failed: KeyError: 'x' (<string>:6)"]
    assert "Traceback (most recent call last):" in logged("debug", ENGINE)
