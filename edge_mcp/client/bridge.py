"""Hosts on one side, a device on the other: passes messages on, and lets no host notice that the device was away.

A host's conversation has a connection to the device of its own. Where each request is one (HTTP of 2026-07-28), a request takes
a connection that no other uses meanwhile, so that whatever comes on it is about this request.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from edge_mcp.client import bridge_words as words
from edge_mcp.client.backoff import Backoff
from edge_mcp.client.bridge_device import Device, Line, is_away
from edge_mcp.client.bridge_record import Record, ToDevice, ToHost
from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import Envelope, RequestId
from edge_mcp.transports.base import Connection

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long requests wait for a device that is away; then they, and those that follow until it is back, get an error."""
RESUME_S = 20.0
"""For the device to take up a conversation again."""
MAX_PASSING = 64
"""Requests of hosts without a conversation that are on their way at once; others wait."""
_STEADY_S = 10.0
_MAX_PAGES = 100


class Bridge:
    """Serves hosts with what a device has."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._passing = asyncio.Semaphore(MAX_PASSING)

    async def serve(self, connection: Connection) -> None:
        """Serve one host until it is done; see transports.base.Serve. Raises: ConfigError when there is no such device."""
        async with self._passing if connection.peer.passing else contextlib.nullcontext():
            await _Relay(self._device, connection).run()


class _Relay:
    """One host's conversation with the device."""

    def __init__(self, device: Device, host: Connection) -> None:
        self._device = device
        self._host = host
        self._record = Record()
        self._backoff = Backoff()
        self._line: Line | None = None
        self._up = False
        """Whether requests may be sent on the line: the conversation is taken up again."""
        self._why = "it was not there yet"
        self._losses = 0
        self._own: dict[RequestId, asyncio.Future[Envelope]] = {}
        self._owns = 0
        self._answer = asyncio.Event()
        self._sending = 0
        self._host_gone = asyncio.Event()

    async def run(self) -> None:
        """Until the host is done. Raises: ConfigError."""
        reading = asyncio.create_task(self._read_host())
        talking = asyncio.create_task(self._talk())
        gone = asyncio.create_task(self._host_gone.wait())
        try:
            await asyncio.wait([reading, talking, gone], return_when=asyncio.FIRST_COMPLETED)
            for task in (talking, reading):
                if task.done():
                    task.result()
        except ConnectionClosed as error:
            logger.debug("%s: %s", self._host.peer.address, error)
        finally:
            try:
                await _end(reading, talking, gone)
            finally:  # also when this is cancelled meanwhile
                self._part()

    # The host's side

    async def _read_host(self) -> None:
        """Raises: ConnectionClosed."""
        async for frame in self._host:
            while self._record.full:
                await self._answered()
            await self._pass(self._record.from_host(frame, self._up))
            self._expect()
            if not self._up:
                await self._lose_patience()
        if self._host.half_close:
            await self._pass_all(self._record.end_listening())
            while self._sending or not self._record.idle:
                await self._answered()

    async def _answered(self) -> None:
        """Until the next answer."""
        self._answer.clear()
        await self._answer.wait()

    async def _pass(self, out: ToHost | ToDevice | None) -> None:
        """Raises: ConnectionClosed when the host is gone."""
        match out:
            case ToHost():
                self._sending += 1
                try:
                    await self._host.send(out.frame, out.about, out.last)
                finally:
                    self._sending -= 1
                    self._answer.set()
            case ToDevice() if self._line is not None:
                with contextlib.suppress(ConnectionClosed):  # who reads the line sees to what follows
                    await self._line.send(out.frame)

    def _expect(self) -> None:
        if self._line is not None:
            self._line.expect(not self._up or self._record.busy, self._record.silence_s)

    async def _pass_all(self, outs: Iterable[ToHost | ToDevice]) -> None:
        for out in list(outs):
            await self._pass(out)

    def _part(self) -> None:
        """The host is done: tell the device what nobody waits for, and keep the connection if another request may have it."""
        line, self._line = self._line, None
        if line is None:
            return
        left = list(self._record.leave())
        if self._host.peer.passing and self._up and not left:
            self._device.put_back(line)
        else:
            self._device.part(line, *(out.frame for out in left))

    # The device's side

    async def _talk(self) -> None:
        """Be connected to the device. Raises: ConfigError where there is none to be had, ConnectionClosed of the host."""
        while True:
            self._line = line = await self._connected()
            since = self._device.clock()
            before = self._record.answered
            why = await self._use(line)
            self._up = False
            self._line = None
            self._device.part(line)
            if self._record.answered > before or self._device.clock() - since > _STEADY_S:
                self._backoff.reset()
                self._device.back()
            self._losses += 1
            await self._pass_all(self._record.lost())
            await self._missed(why)

    async def _connected(self) -> Line:
        while True:
            try:
                return await self._device.line(self._take, self._host.peer.passing)
            except ConfigError as error:
                if not self._device.met and not is_away(error):
                    await self._pass_all(self._record.refuse(str(error)))
                    raise
                await self._missed(error.message)

    async def _missed(self, why: str) -> None:
        """The device is away: wait a little."""
        self._why = why
        self._device.away(why)
        await self._lose_patience()
        await self._device.wait(self._backoff.next())

    async def _lose_patience(self) -> None:
        if self._device.away_s >= PATIENCE_S:
            await self._pass_all(self._record.refuse(f"the device cannot be reached: {self._why}"))

    async def _use(self, line: Line) -> str:
        """Why the line ended, once it has. Raises: ConfigError, ConnectionClosed of the host."""
        resuming = asyncio.create_task(self._resume(line))
        ended = asyncio.create_task(line.wait())
        try:
            await asyncio.wait([resuming, ended], return_when=asyncio.FIRST_COMPLETED)
            if resuming.done():
                resuming.result()
            return await ended
        except TimeoutError:
            return f"the device did not answer within {RESUME_S:.0f} s"
        except _Refused:
            return "the device does not take the conversation up again"
        finally:
            await _end(resuming, ended)

    async def _take(self, frame: bytes) -> None:
        """A frame of the device's. Raises: Malformed."""
        out = self._record.from_device(frame)
        self._device.back()
        self._expect()
        if isinstance(out, Envelope):
            waiting = self._own.get(msgspec.json.decode(out.id)) if bytes(out.id) else None
            if waiting is not None and not waiting.done():
                waiting.set_result(out)
            return
        try:
            await self._pass(out)
        except ConnectionClosed as error:
            logger.debug("%s: %s", self._host.peer.address, error)
            self._host_gone.set()

    # A device that was away

    async def _resume(self, line: Line) -> None:
        """Take the conversation up (again). Raises: TimeoutError, _Refused, ConfigError, ConnectionClosed of the host."""
        record = self._record
        self._expect()
        with contextlib.suppress(_LineEnded):
            async with asyncio.timeout(RESUME_S):
                if record.hello:
                    answer = await self._ask(line, "initialize", msgspec.Raw(record.hello))
                    if not jsonrpc.present(answer.result):
                        raise _Refused  # not for good, perhaps: it was another one that agreed
                    for frame in record.agree(answer.result):
                        await _send(line, frame)
                    for method, params in record.settings():
                        await self._ask(line, method, msgspec.Raw(params))
                tools = await self._repeatable(line) if record.has_calls() else set()
            await self._pass_all(record.refuse_unsafe(tools, self._why))
            while (entry := record.next_waiting()) is not None:
                await _send(line, entry)
            self._up = True
            self._expect()
            if self._losses:
                async with asyncio.timeout(RESUME_S):
                    changed = await self._changed(line)
                await self._pass_all(record.changed(changed))

    async def _repeatable(self, line: Line) -> set[str]:
        """The tools that may be called twice."""
        found: set[str] = set()
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            answer = await self._list(line, "tools/list", cursor)
            page = words.tool_page(answer.result)
            found |= page.repeatable()
            cursor = page.nextCursor
            if not cursor:
                break
        return found

    async def _changed(self, line: Line) -> set[str]:
        """Of the lists that the host has seen, those that are others now; by their methods."""
        changed: set[str] = set()
        for (method, cursor), digest in self._record.lists.items():
            if method not in changed:
                answer = await self._list(line, method, cursor)
                if words.digest(answer.result) != digest:
                    changed.add(method)
        return changed

    async def _list(self, line: Line, method: str, cursor: str | None) -> Envelope:
        meta = {} if self._record.hello else {"_meta": words.MODERN_META}
        return await self._ask(line, method, meta | ({} if cursor is None else {"cursor": cursor}))

    async def _ask(self, line: Line, method: str, params: Any) -> Envelope:
        """The device's answer to a request of the bridge's own."""
        self._owns += 1
        own = f"edge-mcp-bridge-{self._owns}"
        self._own[own] = asyncio.get_running_loop().create_future()
        try:
            await _send(line, words.encoded({"id": own, "method": method, "params": params}))
            return await self._own[own]
        finally:
            del self._own[own]


class _LineEnded(Exception):
    """The device is away again."""


class _Refused(Exception):
    """The device answers `initialize` with an error."""


async def _send(line: Line, frame: bytes) -> None:
    try:
        await line.send(frame)
    except ConnectionClosed as error:
        raise _LineEnded from error


async def _end(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
