"""edge-mcp as its users run it: a process, its output and its exit status."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"


@dataclass
class Ran:
    status: int
    out: str
    err: str

    def failed(self, status: int = 1) -> str:
        """The one line that an error is."""
        assert (self.status, self.out) == (status, ""), self
        assert self.err.startswith("edge-mcp: ") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("edge-mcp: ").rstrip("\n")


def edge_mcp(*words: str, stdin: bytes = b"", cwd: Path = ROOT, **environment: str) -> Ran:
    """Run one command to its end."""
    home = {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "edge_mcp", *words],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **home, **environment},
        timeout=120,
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def hears_ctrl_c() -> None:
    """For a child, before it begins: what runs the tests in the background may have made them, and so it, deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
