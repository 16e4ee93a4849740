"""A real server whose runs wait while a file lies there, on a device that looks as a folder says; it tells what it runs.

gated.py FOLDER serve …     FOLDER has `device` (its /proc and /sys), maybe `gate`, and gets `runs`: a line for each run
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import edge_mcp.app
from edge_mcp.cli.main import main
from edge_mcp.engine.messages import Item, ModelSpec, Ran
from edge_mcp.engine.watch import Tell
from edge_mcp.load.device import DeviceLoad
from edge_mcp.load.monitor import Monitor
from edge_mcp.scheduling import batcher


class Gated:
    """See batcher.Runner: the runs of an engine, each of which waits for the gate. No model's pace is measured."""

    def __init__(self, engine: batcher.Runner, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    async def measure(self, model: ModelSpec) -> dict[int, float]:
        """See Runner."""
        return {}

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        """See Runner."""
        with (self._folder / "runs").open("a") as runs:
            runs.write(json.dumps([item.arguments[:100].decode() for item in items]) + "\n")
        while (self._folder / "gate").exists():
            await asyncio.sleep(0.005)
        return await self._engine.run(model, items, tell)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    del sys.argv[1]

    class GatedBatcher(batcher.Batcher):
        def __init__(self, engine: batcher.Runner, *more: Any) -> None:
            super().__init__(Gated(engine, folder), *more)

    class Board(DeviceLoad):
        def __init__(self, lanes: int) -> None:
            super().__init__(lanes, Monitor(folder / "device"))

    setattr(edge_mcp.app, "Batcher", GatedBatcher)  # noqa: B010  (as the app would have it)
    setattr(edge_mcp.app, "DeviceLoad", Board)  # noqa: B010
    main()
