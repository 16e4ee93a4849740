"""The deadline of a request, which every word of its progress puts off."""

import asyncio
from collections.abc import Callable

from edge_mcp.engine.messages import Progress

Tell = Callable[[int, int], None]
"""Hears how many rows of how many are done."""


class Watch:
    """Calls `hung` when a request has neither ended nor told of progress for `limit_s`."""

    def __init__(self, limit_s: float, hung: Callable[[], None], tell: Tell | None) -> None:
        self._limit_s = limit_s
        self._hung = hung
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """From now on."""
        self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._hung)

    def progress(self, progress: Progress) -> None:
        """The request is alive: it has its whole time anew."""
        self.stop()
        self.start()
        if self._tell is not None:
            self._tell(progress.done, progress.total)

    def stop(self) -> None:
        """It has ended."""
        if self._timer is not None:
            self._timer.cancel()
