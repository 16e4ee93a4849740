"""An event loop whose time passes as soon as nothing is left to do: a day of timers takes seconds."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Instead of waiting it lets the time pass."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen: no timer is set and nothing is ready")
        if not ready and timeout:
            self.loop.now += timeout
            self.loop.wakeups += 1
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is its time in seconds; whoever adds to it while it runs makes the loop stand for so long."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 1000.0
        self.wakeups = 0
        super().__init__(selector)

    def time(self) -> float:
        """See asyncio."""
        return self.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a virtual loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
