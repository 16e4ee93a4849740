"""One connection to a device, for all who use it in this loop: made anew when it is lost, and never with too much in flight."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from edge_mcp.client.backoff import Backoff
from edge_mcp.client.client import Client, NotSent
from edge_mcp.client.pulse import Alive, Pulse
from edge_mcp.errors import AwayError, CallError, ConfigError, ConnectionClosed, UncertainError
from edge_mcp.transports.base import Connection

logger = logging.getLogger(__name__)

MAX_CALLS = 64
"""Requests in flight; others wait for their turn. A server runs 128 of a connection at once."""
PATIENCE_S = 30.0
"""How long calls wait for a device that is away, those that wait for their turn too."""
MAX_LOSSES = 5
"""So many connections may end under one call; then it may be its own fault."""
STEADY_S = 10.0
"""A connection that lived for so long was a good one: after it, waiting begins anew."""

Dial = Callable[[], Awaitable[Connection]]
T = TypeVar("T")


def always() -> bool:
    """What reads does no harm when it is done twice."""
    return True


class Link:
    """The connection to the device called `name`, which `dial` makes (raises ConfigError). After it was lost it is made again
    when somebody wants something."""

    def __init__(
        self,
        name: str,
        dial: Dial,
        backoff: Backoff | None = None,
        patience_s: float = PATIENCE_S,
        pulse: Callable[[Alive], Pulse] = Pulse,
        lasting: bool = False,
    ) -> None:
        """`lasting`: the first attempt is like all others; if it fails, there are more."""
        self.users = 0
        self.name = name
        self._dial = dial
        self._backoff = backoff or Backoff()
        self._patience_s = patience_s
        self._make_pulse = pulse
        self._lasting = lasting
        self._hurried = asyncio.Event()
        self._connection: Connection | None = None
        self._room = asyncio.Semaphore(MAX_CALLS)
        self._asking = 0
        self._in_flight = 0
        self._away_since: float | None = None
        self._client: Client | None = None
        self._pulse: Pulse | None = None
        self._repeatable: set[str] = set()
        self._why = ""
        self._up = asyncio.Event()
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run())
        self._closed = False

    async def opened(self) -> None:
        """Wait for the first connection. Raises: ConfigError, CallError, ConnectionClosed when it cannot be had."""
        await asyncio.wait([self._first, self._runner], return_when=asyncio.FIRST_COMPLETED)
        if not self._first.done():
            self._runner.result()  # it never ends by itself but with an error
        self._first.result()

    async def close(self) -> None:
        """End the connection, and all that waits for it. Idempotent."""
        self._closed = True
        self._up.set()
        self._runner.cancel()
        await asyncio.wait([self._runner])
        if self._first.done() and not self._first.cancelled():
            self._first.exception()  # it was told, or nobody waits for it any more
        else:
            self._first.cancel()

    def may_repeat(self, tool: str) -> bool:
        """Whether a call may be made twice, as the tool said when the device was connected to again."""
        return tool in self._repeatable

    async def ask(self, request: Callable[[Client], Awaitable[T]], may_repeat: Callable[[], bool] = always) -> T:
        """The answer to a request, in its turn. If the connection ends meanwhile, it is made again on the next, unless it
        was sent and `may_repeat` says no.

        Raises: CallError; AwayError, UncertainError, ConnectionClosed.
        """
        self._asking += 1
        try:
            async with self._room:
                self._fly(1)
                try:
                    return await self._asked(request, may_repeat)
                finally:
                    self._fly(-1)
        finally:
            self._asking -= 1
            if not self._asking:
                self._away_since = None

    async def _asked(self, request: Callable[[Client], Awaitable[T]], may_repeat: Callable[[], bool]) -> T:
        losses: list[ConnectionClosed] = []
        while True:
            try:
                client = await self.connected(self._patience_s)
            except AwayError as error:
                raise UncertainError(f"{error}. The call may have been made") if losses else error from None
            if losses and not may_repeat():
                words = f"the connection to {self.name} was lost before the answer came ({losses[-1]})"
                hint = "The call may have been made: the tool does not say that it may be called twice"
                raise UncertainError(words, hint) from losses[-1]
            try:
                return await request(client)
            except NotSent as error:
                self.lost(client, str(error))
            except ConnectionClosed as error:
                self.lost(client, str(error))
                losses.append(error)
                if len(losses) > MAX_LOSSES:
                    raise

    async def ask_once(self, request: Callable[[Client], Awaitable[T]], patience_s: float) -> T:
        """The answer to a request that is made once, in its turn, for who has another device to go to.

        Raises: NotSent when there was no connection within `patience_s`, or it ended before; CallError, ConnectionClosed.
        """
        async with self._room:
            self._fly(1)
            try:
                client = await self.connected(patience_s)
                try:
                    return await request(client)
                except ConnectionClosed as error:
                    self.lost(client, str(error))
                    raise
            except AwayError as error:
                raise NotSent(str(error)) from error
            finally:
                self._fly(-1)
                if not self._in_flight:
                    self._away_since = None

    def hurry(self) -> None:
        """The device is said to be there: connect now, if it is not connected."""
        self._backoff.reset()
        self._hurried.set()

    def drop(self, why: str) -> None:
        """The device is known to be gone: end the connection without it."""
        if self._client is not None:
            self.lost(self._client, why)
        if isinstance(self._connection, Alive):
            self._connection.abandon(why)

    async def connected(self, patience_s: float | None) -> Client:
        """The conversation with the device; waited for if it is away. Raises: AwayError, ConnectionClosed."""
        until = None
        if patience_s is not None and self._client is None:
            self._away_since = self._away_since or asyncio.get_running_loop().time()
            until = self._away_since + patience_s
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout_at(until):
                while self._client is None and not self._closed:
                    await self._up.wait()
        except TimeoutError:
            raise AwayError(f"no connection within {patience_s:g} s: {self._why}") from None
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()
        if self._client is None or self._closed:
            raise ConnectionClosed("this client is closed")
        return self._client

    def lost(self, client: Client, why: str) -> None:
        """This conversation has ended: nobody gets it any more."""
        if self._client is client:
            self._client = None
            self._why = f"the one to {self.name} was lost: {why}"
            if not self._closed:
                self._up.clear()
                logger.info("%s: %s", self.name, why)

    def _fly(self, more: int) -> None:
        was_busy = self._in_flight > 0
        self._in_flight += more
        if was_busy != (self._in_flight > 0):
            self._expect()

    def _expect(self) -> None:
        if self._pulse is not None and self._client is not None:
            self._pulse.expect(self._in_flight > 0, self._client.silence_s)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await self._use(await self._dial())
            except (ConfigError, CallError, ConnectionClosed) as error:
                if not self._first.done() and not self._lasting:
                    self._first.set_exception(error)
                    return
                self._why = error.message
            if loop.time() - begun > STEADY_S:
                self._backoff.reset()
            await self._wanted.wait()
            self._hurried.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next()):
                    await self._hurried.wait()

    async def _use(self, connection: Connection) -> None:
        """Hand out the conversation on `connection` until it ends. Raises: CallError, ConnectionClosed."""
        self._connection = connection
        pulse = self._make_pulse(connection) if isinstance(connection, Alive) else None
        try:
            if pulse is not None:
                pulse.expect(True, None)
            async with Client(connection) as client:
                if self._in_flight:
                    self._repeatable = {tool.name for tool in await client.list_tools() if tool.repeatable}
                self._client, self._pulse, self._away_since = client, pulse, None
                self._up.set()
                self._expect()
                if not self._first.done():
                    self._first.set_result(None)
                self.lost(client, await client.wait())
        finally:
            self._pulse = self._connection = None
            if pulse is not None:
                pulse.stop()
