"""Whether a silent server is still there: asked by a ping when that is wanted, or overdue by what the server promised."""

import asyncio
from typing import Protocol, runtime_checkable

from edge_mcp.transports.keepalive import Dead, KeepAlive, Ping, Policy

POLICY = Policy(base_s=60.0, least_s=0.0, near_s=86_400.0)
"""The figures (see there); `base_s` is for a server that promises nothing and is not waited for."""
BUSY_S = 10.0
"""While answers are waited for, so long a silence is asked about."""
_EXACT_S = 0.002  # the kernel counts milliseconds
_MOVING_BYTES = 4096  # that arrived at the other side since the ping was sent: it waits behind what is large


@runtime_checkable
class Alive(Protocol):
    """A connection that can be asked."""

    def heard(self) -> tuple[float, int] | None:
        """For how many seconds no byte came, and how many of ours arrived; None where nobody knows."""
        ...

    async def ping(self, payload: bytes) -> None:
        """Ask for a sign of life."""
        ...

    def abandon(self, why: str) -> None:
        """End it without the other side."""
        ...


class Pulse:
    """Watches one connection until `stop`. The server pings by itself (`promised` says after how long a silence it is
    gone), so that an idle client has one timer and sends nothing; while answers are waited for (`busy`) the client asks.

    A server is dead that answered two pings neither in time nor with anything else.
    """

    def __init__(self, connection: Alive, policy: Policy = POLICY, busy_s: float = BUSY_S) -> None:
        self._connection = connection
        self._busy_s = busy_s
        self._base_s = self._idle_s = policy.base_s
        self._busy = False
        self._loop = asyncio.get_running_loop()
        self._latest = self._loop.time()
        self._arrived = 0
        self._judge = KeepAlive(policy, self._latest)
        self._timer: asyncio.TimerHandle | None = None
        self._pings: set[asyncio.Task[None]] = set()
        self._set()

    def expect(self, busy: bool, promised_s: float | None) -> None:
        """Answers are waited for, or are not; the server promises to be heard within `promised_s`."""
        idle_s = self._base_s if promised_s is None else promised_s
        if (busy, idle_s) != (self._busy, self._idle_s):
            self._busy, self._idle_s = busy, idle_s
            self._set()

    def stop(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
        for ping in self._pings:
            ping.cancel()

    def _set(self) -> None:
        self._judge.wish(min(self._busy_s, self._idle_s) if self._busy else self._idle_s)
        due = self._judge.next_due()
        if self._timer is None or due < self._timer.when():  # one that is early looks and sets itself anew
            self._plan(due)

    def _plan(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        heard = self._connection.heard()
        if heard is None:
            return
        silent, arrived = heard
        now = self._loop.time()
        if arrived - self._arrived > _MOVING_BYTES:
            self._judge.moved(now)
        self._arrived = arrived
        if now - silent > self._latest + _EXACT_S:
            self._latest = now - silent
            self._judge.heard(self._latest)
        due = self._judge.next_due()
        if now < due:
            self._plan(due)
            return
        match self._judge.check(now):
            case Dead(reason):
                self._connection.abandon(f"the server is gone: {reason}")
            case Ping(payload):
                ping = asyncio.create_task(self._connection.ping(payload))
                self._pings.add(ping)
                ping.add_done_callback(self._pings.discard)
                self._plan(self._judge.next_due())
