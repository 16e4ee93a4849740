"""To be imported first by a benchmark that needs the project's packages: goes on in its environment, whichever Python it was
started with."""

import os
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv"

if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
    if not ENVIRONMENT.exists():
        sys.exit("there is no .venv yet. Make it: scripts/setup --dev")
    python = str(ENVIRONMENT / "bin/python")
    os.execv(python, [python, *sys.argv])  # noqa: S606 - there is no shell
