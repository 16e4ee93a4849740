"""The sessions of Streamable HTTP that there are: a bounded number, each with an end when nobody uses it."""

import asyncio
import logging
from collections.abc import Callable

from edge_mcp.transports.base import Peer, Serve
from edge_mcp.transports.replay import Replay
from edge_mcp.transports.session import HttpSession

logger = logging.getLogger(__name__)

IDLE_S = 1800.0
EVICT_S = 300.0
"""A session that was not used for so long makes room for a new one, where there are too many."""
_SWEEP_S = 0.1  # at least between two sweeps


class Sessions:
    """All sessions: a bounded number of them, each with an end when nobody uses it."""

    def __init__(
        self,
        serve: Serve,
        limit: int,
        idle: float = IDLE_S,
        clock: Callable[[], float] | None = None,
        replay: Replay | None = None,
    ) -> None:
        self._serve = serve
        self.limit = limit
        self.idle = idle
        self._clock = clock or asyncio.get_running_loop().time
        self._replay = replay or Replay()
        self._sessions: dict[str, HttpSession] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, peer: Peer) -> HttpSession | None:
        """A new session; None when there are too many that are in use."""
        self.sweep()
        if len(self._sessions) >= self.limit and not self._evict():
            return None
        session = HttpSession(peer, self._replay, self._clock)
        self._sessions[session.id] = session
        task = self._tasks[session.id] = asyncio.create_task(self._run(session))
        task.add_done_callback(lambda _: self._tasks.pop(session.id, None))
        self._watch()
        return session

    def get(self, session_id: str, principal: str) -> HttpSession | None:
        """A session of this principal's by its id."""
        session = self._sessions.get(session_id)
        if session is None or session.closed or session.peer.principal != principal:
            return None
        session.touch()
        return session

    def sweep(self) -> None:
        """End sessions that nobody has used for long; done by itself now and then while there are any."""
        now = self._clock()
        for session in list(self._sessions.values()):
            if not session.active and now - session.used >= self.idle:
                self._end(session)

    def end(self, session: HttpSession) -> None:
        """End one session."""
        self._end(session)

    async def close(self) -> None:
        """End all sessions."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks.values())
        for session in list(self._sessions.values()):
            self._end(session)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self) -> None:
        """Sweep now and then, as long as there is something to sweep."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(_SWEEP_S, self.idle / 2), self._swept)

    def _swept(self) -> None:
        self._timer = None
        self.sweep()
        if self._sessions:
            self._watch()

    def _evict(self) -> bool:
        """Make room: end the session that was used the longest time ago, if that is long enough."""
        quiet = [session for session in self._sessions.values() if not session.active]
        oldest = min(quiet, key=lambda session: session.used, default=None)
        if oldest is None or self._clock() - oldest.used < EVICT_S:
            return False
        self._end(oldest)
        return True

    def _end(self, session: HttpSession) -> None:
        self._sessions.pop(session.id, None)
        session.end()
        task = self._tasks.get(session.id)
        if task is not None and task is not asyncio.current_task():
            task.cancel()  # it may be waiting for something else than a message

    async def _run(self, session: HttpSession) -> None:
        try:
            await self._serve(session)
        except Exception:
            logger.exception("%s: a session failed unexpectedly", session.peer.address)
        finally:
            self._end(session)
