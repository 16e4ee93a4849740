"""The bridge's connections to its device."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from edge_mcp.client.pulse import Alive, Pulse
from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.protocol.jsonrpc import Malformed
from edge_mcp.transports.base import Connection, Oversized

_IDLE_LINES = 4
_FAREWELL_S = 1.0

Dial = Callable[[], Awaitable[Connection]]
Take = Callable[[bytes], Awaitable[None]]


class Line:
    """A connection to the device, which is read all the time; `take` gets the frames, nobody while it is not in use."""

    def __init__(self, connection: Connection, take: Take | None) -> None:
        self.take = take
        self.why = ""
        self._connection = connection
        self._pulse = Pulse(connection) if isinstance(connection, Alive) else None
        self._reader = asyncio.create_task(self._read())

    @property
    def ended(self) -> bool:
        """Whether the device ended it."""
        return self._reader.done()

    def expect(self, busy: bool, silence_s: float | None) -> None:
        """Answers are waited for, or are not; the device promises to be heard within `silence_s`. One that is not is gone."""
        if self._pulse is not None and not self.ended:
            self._pulse.expect(busy, silence_s)

    async def wait(self) -> str:
        """Why it ended, once it has."""
        await asyncio.wait([self._reader])
        return self.why

    async def send(self, frame: bytes) -> None:
        """Raises: ConnectionClosed."""
        await self._connection.send(frame)

    async def close(self) -> None:
        """End it. Idempotent."""
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._connection.close()

    async def _read(self) -> None:
        try:
            async for frame in self._connection:
                if isinstance(frame, Oversized):
                    self.why = f"the device sent a message of {frame.size} bytes, more than the {frame.limit} allowed"
                    return
                if self.take is not None:
                    await self.take(frame)
            self.why = getattr(self._connection, "why", "")
        except Malformed as error:
            self.why = f"the device sent something that is not MCP: {error.message}"
        except ConnectionClosed as error:
            self.why = str(error)
        finally:
            if self._pulse is not None:
                self._pulse.stop()
            self.why = self.why or "the device closed the connection"


class Device:
    """The one device of a bridge: how to connect to it (`dial` raises ConfigError), and whether it is there.

    `say` tells the user. `clock` (seconds) and `wait` are the time.
    """

    def __init__(
        self,
        dial: Dial,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock = clock
        self.wait = wait
        self.met = False
        """Whether it was ever there: what it refuses then may be its own passing trouble."""
        self._dial = dial
        self._say = say
        self._said = ""
        self._away_since: float | None = clock()
        self._idle: list[Line] = []
        self._parting: set[asyncio.Task[None]] = set()

    @property
    def away_s(self) -> float:
        """For how long it has been away."""
        return 0.0 if self._away_since is None else self.clock() - self._away_since

    async def line(self, take: Take, shared: bool) -> Line:
        """A connection; with `shared` it may be one that is not in use any more. Raises: ConfigError."""
        while shared and self._idle:
            line = self._idle.pop()
            if not line.ended:
                line.take = take
                return line
            self.part(line)
        return Line(await self._dial(), take)

    def put_back(self, line: Line) -> None:
        """Keep a connection on which nothing is under way."""
        line.take = None
        line.expect(False, None)
        if line.ended or len(self._idle) >= _IDLE_LINES:
            self.part(line)
        else:
            self._idle.append(line)

    def part(self, line: Line, *last: bytes) -> None:
        """Say `last` and end a connection, without making anybody wait for that."""
        line.take = None
        task = asyncio.get_running_loop().create_task(_part(line, last))
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)

    async def close(self) -> None:
        """End the connections that are kept."""
        while self._idle:
            self.part(self._idle.pop())
        await asyncio.gather(*self._parting)

    def away(self, why: str) -> None:
        """It does not answer: tell the user, once for each reason."""
        if self._away_since is None:
            self._away_since = self.clock()
        if why != self._said:
            self._say(f"{why}. Trying again")
            self._said = why

    def back(self) -> None:
        """It answers: tell the user, if it was away."""
        self.met = True
        self._away_since = None
        if self._said:
            self._say("the device answers again")
            self._said = ""


async def _part(line: Line, last: Sequence[bytes]) -> None:
    try:
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                for frame in last:
                    await line.send(frame)
    finally:
        await line.close()


def is_away(error: ConfigError) -> bool:
    """Whether a device that cannot be connected to may be starting, or on its way: not when it refuses, or is none."""
    cause = error.__cause__
    status = getattr(cause, "status", 0)
    refused = "certificate" in type(cause).__name__.lower()
    return (isinstance(cause, OSError) and not refused) or status == 429 or status >= 500
