"""Who may use which lane: first come, first served; a request under suspicion gets all lanes, so that it runs alone."""

import asyncio
from collections import deque


class Lanes:
    """`count` lanes, by index."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle = list(range(count))
        self._waiting: deque[tuple[int, asyncio.Future[list[int]]]] = deque()

    @property
    def taken(self) -> int:
        """How many lanes are in use."""
        return self.count - len(self._idle)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    async def acquire(self, alone: bool = False) -> list[int]:
        """One idle lane, or all of them when `alone`; waits for its turn, and a cancelled wait takes none."""
        need = self.count if alone else 1
        if not self._waiting and len(self._idle) >= need:
            return self._take(need)
        turn: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((need, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(turn.result())
            elif (need, turn) in self._waiting:  # else its turn came in this very moment, and was passed on
                self._waiting.remove((need, turn))
                self._grant()
            raise

    def release(self, lanes: list[int]) -> None:
        """Give lanes back; the last one is the next to be used, because its thread still has everything at hand."""
        self._idle = [*lanes, *self._idle]
        self._grant()

    def _take(self, need: int) -> list[int]:
        taken, self._idle = self._idle[:need], self._idle[need:]
        return taken

    def _grant(self) -> None:
        while self._waiting and len(self._idle) >= self._waiting[0][0]:
            need, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._take(need))
