"""Asks the workshop: a process that imports what is heavy, and ends."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import edge_mcp
from edge_mcp.cli.models.chart import HEIGHT, WIDTH, Shape
from edge_mcp.cli.render import printable
from edge_mcp.errors import EngineError, ModelError


def painted(drawn: Sequence[Shape]) -> bytes:
    """The shapes of a chart as a PNG. Raises: ModelError, EngineError."""
    return base64.b64decode(asked("paint", drawn=drawn, width=WIDTH, height=HEIGHT))


def asked(tool: str, **request: Any) -> Any:
    """What the tool answers. Raises: ModelError (what it says is wrong), EngineError (it failed)."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "edge_mcp.workshop", tool],
        input=msgspec.json.encode(request),
        capture_output=True,
        env=_environment(),
        check=False,
    )
    if ran.returncode or not ran.stdout:
        said = ran.stderr.decode("utf-8", "replace").strip().splitlines()
        how = signal.Signals(-ran.returncode).name if ran.returncode < 0 else f"status {ran.returncode}"
        raise EngineError(f"the workshop ended with {how}: {printable(said[-1]) if said else 'it said nothing'}")
    answer = msgspec.json.decode(ran.stdout)
    if "error" in answer:
        raise ModelError(answer["error"], answer["hint"])
    return answer["result"]


def _environment() -> dict[str, str]:
    """The workshop is of this very package, wherever it was started from."""
    home = str(Path(edge_mcp.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{inherited}" if inherited else home}
