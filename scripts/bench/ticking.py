"""A server for `lag`: edge-mcp with a timer in its event loop that is due every 10 ms, and notes how late it comes.

ticking.py FILE serve --stdio …     FILE gets the milliseconds, as JSON, when the server ends; SIGUSR1 forgets what was noted
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_mcp.app import App
from edge_mcp.cli.main import main

EVERY_S = 0.01
late_ms: list[float] = []


class Ticking(App):
    """See App."""

    async def serve(self, *arguments: Any, **more: Any) -> None:
        """Serve, and tick meanwhile."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, late_ms.clear)

        def tick(due: float) -> None:
            now = loop.time()
            late_ms.append(round((now - due) * 1000, 3))
            due = max(due + EVERY_S, now)  # what was missed is one late tick, not many
            loop.call_at(due, tick, due)

        tick(loop.time())
        await super().serve(*arguments, **more)


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    import edge_mcp.app

    edge_mcp.app.App = Ticking  # type: ignore[misc]
    try:
        main()
    finally:
        file.write_text(json.dumps(late_ms))
