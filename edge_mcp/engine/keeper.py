"""Keeps models loaded as long as they are wanted and there is memory, over all engines. One timer; none once all have ended."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edge_mcp.engine.messages import Loaded, ModelSpec
from edge_mcp.engine.residency import Holder, Residency, Resident
from edge_mcp.engine.room import Limits, Room

logger = logging.getLogger(__name__)

LOOK_S = 5.0
"""While models are used, how often at most it is looked whether the device is short of memory."""


class Keeper:
    """What engines tell of their models' uses and loads, and what follows from it: who is unloaded, which engine ends.

    `keep_s` is how long a model stays after its last use where its manifest does not say, and an engine without any.
    By default nothing is ever unloaded, and there is room for all.
    """

    def __init__(
        self,
        keep_s: float = float("inf"),
        preload: frozenset[str] = frozenset(),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._residency = Residency(keep_s, preload)
        self._room = Room(self._residency, limits)
        self._keep_s = keep_s
        self._clock = clock
        self._rested: dict[Holder, float] = {}  # the engines that are there, and when they last did something
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._tidying: asyncio.Task[None] | None = None
        self._looked = float("-inf")

    # ---- uses

    async def enter(self, key: str) -> None:
        """A call is about to use a model; each is followed by a `leave`."""
        await self._room.entry(key)
        self._residency.begin(key, self._clock())

    def begin(self, key: str) -> None:
        """The engine is about to run a model; each is followed by a `leave`."""
        self._residency.begin(key, self._clock())

    def leave(self, key: str) -> None:
        """That is over."""
        now = self._clock()
        due = self._residency.end(key, now)
        if not self._residency.uses(key):
            self._room.rested(key)
        if due is not None:
            self._wake(due)
        if now - self._looked >= LOOK_S:
            self.look()

    def look(self) -> None:
        """Look whether the device is short of memory, and unload what is idle if so."""
        self._looked = self._clock()
        if self._room.is_short():
            self._wake(self._looked)

    def uses(self, key: str) -> int:
        """How many calls use a model, or wait for it."""
        return self._residency.uses(key)

    async def unused(self, key: str) -> None:
        """Wait until no call uses a loaded model any more."""
        await self._room.unused(key)

    # ---- loads

    @asynccontextmanager
    async def room(self, model: ModelSpec, holder: Holder) -> AsyncIterator[None]:
        """Room for a model while it is loaded. Raises: ModelError, EngineError."""
        async with self._room.reserved(model, holder):
            yield

    async def loaded(self, model: ModelSpec, holder: Holder, loaded: Loaded) -> None:
        """A model was loaded; it stays if it is not too large. Raises: ModelError, NotStarted; then it was unloaded."""
        self._residency.loaded(model, holder, loaded.memory_mb, self._clock())
        await self._room.judge(model, holder, loaded)

    def unloaded(self, key: str) -> None:
        """A model is not loaded any more."""
        self._residency.unloaded(key)
        self._room.rested(key)

    # ---- engines

    def started(self, holder: Holder) -> None:
        """An engine process is there."""
        self._room.started(holder)
        self.rested(holder)

    def rested(self, holder: Holder) -> None:
        """An engine has done something."""
        if holder.pid is not None:
            self._rested[holder] = self._clock()
            if not self._residency.of(holder):
                self._wake(self._rested[holder] + self._residency.scaled(self._keep_s))

    def ended(self, holder: Holder) -> None:
        """An engine process is gone."""
        gone = self._residency.of(holder)
        self._residency.ended(holder)
        self._room.ended(holder)
        self._rested.pop(holder, None)
        for resident in gone:
            self._room.rested(resident.key)

    def residents(self, holder: Holder) -> list[Resident]:
        """The models that an engine has loaded."""
        return self._residency.of(holder)

    def idle_s(self, resident: Resident) -> float:
        """How long nobody has used it."""
        return self._clock() - resident.last_used if self._residency.is_idle(resident) else 0.0

    # ---- time

    async def shrink(self, scale: float) -> None:
        """From now on keep what is idle `scale` times as long as it would be; 0: unload it now."""
        self._residency.scale = scale
        self._tidy_soon()
        if self._tidying is not None:
            await asyncio.wait([self._tidying])

    def close(self) -> None:
        """Unload nothing any more."""
        self._due = float("-inf")
        if self._timer is not None:
            self._timer.cancel()
        if self._tidying is not None:
            self._tidying.cancel()

    def _wake(self, due: float) -> None:
        """Look again at this time, unless an earlier look is due: what is used meanwhile only grows old later."""
        if due < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._tidy_soon)

    def _tidy_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, float("inf")
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def _tidy(self) -> None:
        await self._room.relieve()
        for holder in list(self._rested):
            due = [resident for resident in self._residency.due(self._clock()) if resident.holder is holder]
            if len(due) == len(self._residency.of(holder)) and holder.idle and self._is_old(holder, due):
                await holder.end("nobody has used it for a while")
            for resident in due:
                if self._residency.get(resident.key) is resident and self._residency.is_idle(resident):
                    await self._room.drop(resident)
        self._wake(min([self._residency.next_due(), *(self._end_of(holder) for holder in self._rested)], default=float("inf")))

    def _is_old(self, holder: Holder, due: list[Resident]) -> bool:
        return bool(due) or self._end_of(holder) <= self._clock()

    def _end_of(self, holder: Holder) -> float:
        """When an engine without models will have been idle for long enough; a busy one says when it has rested."""
        if self._residency.of(holder) or not holder.idle:
            return float("inf")
        return self._rested[holder] + self._residency.scaled(self._keep_s)
