"""A call: which replica does it, and what happens when that one does not."""

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from edge_mcp.client.client import NotSent
from edge_mcp.client.result import STOPPING, Result
from edge_mcp.context import Context
from edge_mcp.errors import AwayError, BusyError, CallError, ConnectionClosed, EngineError, ProtocolError, UncertainError
from edge_mcp.gateway.choice import Flight, Hedges, choose, finish_s, usual_s
from edge_mcp.gateway.circuit import DEVICE
from edge_mcp.gateway.passing import Passing, Progress, streamed
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.jsonrpc import INTERNAL_ERROR
from edge_mcp.protocol.messages import ToolResult

PATIENCE_S = 30.0
"""How long a call without a deadline waits for a device that takes it."""
MAX_CALLS = 1024
"""Calls that are under way or wait; more are refused."""
MAX_LOSSES = 4
"""So many devices may be lost under one call; then it may be its own fault."""
MAX_STREAMS = 1024
STREAM_S = 600.0
"""A stream that is not used for so long is forgotten, as by the devices."""
REST = 0.25
"""A replica whose queue is full gets no other call for this part of the time that it names for the refused one."""
_RETRY_MS = 1000
_AGAIN_S = 0.2
_SOONEST_S = 0.01
_LEAST_WAIT_S = 0.001


class _Moved(Exception):
    """The replica does not do the call; another one may. `answer` is what it said instead, if anything."""

    def __init__(self, why: str, answer: ToolResult | ProtocolError | None = None, lost: bool = False) -> None:
        super().__init__(why)
        self.answer = answer
        self.lost = lost


class Router:
    """All calls of the gateway. `clock` in seconds, `chance` a number from 0 to less than 1."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random) -> None:
        self.clock = clock
        self.chance = chance
        self.hedges = Hedges()
        self.calls = 0
        self._streams: OrderedDict[str, tuple[Upstream, float]] = OrderedDict()

    async def call(
        self, replicas: Sequence[Upstream], tool: str, arguments: Arguments, context: Context, repeatable: bool
    ) -> ToolResult:
        """What one of `replicas`, which all have `tool`, answers. A call that may be made twice (`repeatable`) is, where the
        first device fails or straggles; one that no device has heard of always is.

        Raises: BusyError, AwayError where none takes it in time; UncertainError where it may have been made; ProtocolError as
        the device has it; InputRequired, with what the device asks.
        """
        if self.calls >= MAX_CALLS:
            raise BusyError(f"{MAX_CALLS} calls are under way already", "Call again later", _RETRY_MS, "queue")
        self.calls += 1
        try:
            async with Progress(context) as progress:
                stream = streamed(tool, arguments, context.peer.owner)
                if stream is None:
                    replicas = self._who_asked(_asking(context, tool), replicas)
                    return await _Call(self, replicas, tool, arguments, context, repeatable, progress).run()
                key, arguments = stream
                return await _Call(self, self.home(key, replicas), tool, arguments, context, False, progress, key).run()
        finally:
            self.calls -= 1

    def home(self, stream: str, replicas: Sequence[Upstream]) -> Sequence[Upstream]:
        """Where a stream may go on: at its device. Raises: AwayError when that is gone, once."""
        home, used = self._streams.get(stream, (None, 0.0))
        if home is None or self.clock() - used > STREAM_S:
            return replicas
        if home.state != "up" or home not in replicas:
            del self._streams[stream]
            hint = "Call again: the stream begins anew, on another device if there is one"
            raise AwayError(f"{home.name}, where this stream was, is away: {home.why}", hint)
        return (home,)

    def _who_asked(self, asking: str, replicas: Sequence[Upstream]) -> Sequence[Upstream]:
        """A call that comes again with answers goes to the device that asked, if that is there: another one would ask too."""
        home, used = self._streams.pop(asking, (None, 0.0))
        there = home in replicas and home is not None and home.state == "up" and self.clock() - used <= STREAM_S
        return (home,) if there and home is not None else replicas

    def settle(self, stream: str, upstream: Upstream) -> None:
        """A stream, or a call that has asked, is at this device from now on."""
        self._streams[stream] = (upstream, self.clock())
        self._streams.move_to_end(stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)


def _asking(context: Context, tool: str) -> str:
    return f"{context.peer.owner} is asked by {tool}"


class _Call:
    """One call, until it is answered."""

    def __init__(
        self,
        router: Router,
        replicas: Sequence[Upstream],
        tool: str,
        arguments: Arguments,
        context: Context,
        repeatable: bool,
        progress: Progress,
        stream: str = "",
    ) -> None:
        self._router = router
        self._clock = router.clock
        self._replicas = replicas
        self._tool = tool
        self._repeatable = repeatable
        self._progress = progress
        self._stream = stream
        self._until = math.inf if context.deadline_ms is None else self._clock() + context.deadline_ms / 1000
        self._patience = min(self._until, self._clock() + PATIENCE_S)
        self._passing = Passing(tool, arguments, context, lambda: self._until - self._clock())
        self._not_before: dict[Upstream, float] = {}
        self._losses = 0
        self._asked = False
        self._asking = _asking(context, tool)
        self._last: _Moved | None = None

    async def run(self) -> ToolResult:
        """See Router.call."""
        straggles_s = self._router.hedges.called(self._tool) if self._repeatable else None
        while (upstream := await self._next()) is not None:
            try:
                if straggles_s is None:
                    return await self._at(upstream)
                return await self._hedged(upstream, max(straggles_s, _SOONEST_S))
            except _Moved as moved:
                self._move(moved)
        return self._given_up()

    def _move(self, moved: _Moved) -> None:
        """Raises: ConnectionClosed when it is enough."""
        if moved.answer is not None or self._last is None:
            self._last = moved
        self._losses += moved.lost
        if self._losses >= MAX_LOSSES:
            hint = "The call itself may be what ends them"
            raise ConnectionClosed(f"{self._losses} devices were lost under this call, the last one: {moved}", hint) from moved

    def _given_up(self) -> ToolResult:
        """What the call ends with. Raises: see Router.call."""
        last = self._last.answer if self._last is not None else None
        if isinstance(last, ProtocolError):
            raise last
        if last is not None:
            return last
        if all(replica.state != "up" for replica in self._replicas):
            whys = "; ".join(f"{replica.name}: {replica.why}" for replica in self._replicas[:5]) or "none was found"
            raise AwayError(f"no device is there that has {self._tool} ({whys})") from self._last
        why = f": {self._last}" if self._last is not None else ""
        hint = f"Call again in {_RETRY_MS} ms"
        raise BusyError(f"no device takes {self._tool} in time{why}", hint, _RETRY_MS, "queue") from self._last

    # Which one

    async def _next(self) -> Upstream | None:
        """The replica to go to, waited for; None where there is none in time."""
        while True:
            now = self._clock()
            if upstream := self._ready(now):
                return upstream
            wait_s = min((self._ready_in(replica, now) for replica in self._replicas), default=math.inf)
            left_s = self._patience - now
            if left_s <= 0 or left_s < wait_s < math.inf or self._hopeless(wait_s):
                return None
            await self._changed(min(max(wait_s, _LEAST_WAIT_S), left_s))

    def _hopeless(self, wait_s: float) -> bool:
        """Whether nothing can be gained by waiting: every replica that is there has said its last word on this call."""
        there = [self._not_before.get(replica) == math.inf for replica in self._replicas if replica.state == "up"]
        return wait_s == math.inf and bool(there) and all(there)

    def _ready(self, now: float, *without: Upstream) -> Upstream | None:
        ready = [replica for replica in self._replicas if replica not in without and self._ready_in(replica, now) == 0.0]
        if not self._repeatable and len(ready) > 1:  # a probe is for a call that does no harm when it is lost
            ready = [replica for replica in ready if not self._probes(replica)] or ready
        if not ready:
            return None
        usual = usual_s(self._replicas, self._tool)
        return choose(ready, self._tool, now, usual, self._until - now, self._router.chance)

    def _probes(self, replica: Upstream) -> bool:
        return replica.circuits.of(DEVICE).open or replica.circuits.of(self._tool).open

    def _ready_in(self, replica: Upstream, now: float) -> float:
        """In how many seconds it may be called; inf when nobody knows."""
        if replica.state != "up" or self._tool not in replica.names:
            return math.inf
        return max(replica.circuits.ready_in(self._tool, now), self._not_before.get(replica, 0.0) - now, 0.0)

    async def _changed(self, seconds: float) -> None:
        """Until another replica may be ready, or for so long."""
        came = asyncio.Event()

        def note(_word: str) -> None:
            came.set()

        for replica in self._replicas:
            replica.changed.append(note)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await came.wait()
        except TimeoutError:
            return
        finally:
            for replica in self._replicas:
                replica.changed.remove(note)

    # What comes of it

    async def _hedged(self, upstream: Upstream, straggles_s: float) -> ToolResult:
        """The call at `upstream`; and after `straggles_s` at another one too, whichever answers first. Raises: as _at."""
        tasks = {asyncio.create_task(self._at(upstream))}
        try:
            done, _ = await asyncio.wait(tasks, timeout=straggles_s)
            if not done and (other := self._other(upstream)):
                tasks.add(asyncio.create_task(self._at(other, False)))
            while True:
                done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if pending and isinstance(moved := task.exception(), _Moved):
                        self._move(moved)
                    else:
                        return task.result()
                tasks = pending
        finally:
            for task in tasks:
                task.cancel()
            if any(not task.done() or (not task.cancelled() and task.exception()) for task in tasks):
                await asyncio.gather(*tasks, return_exceptions=True)

    def _other(self, upstream: Upstream) -> Upstream | None:
        """Where a straggling call may go too."""
        now = self._clock()
        other = None if self._asked else self._ready(now, upstream)
        if other is None or self._probes(other):
            return None
        soon_s = finish_s(other, self._tool, now, usual_s(self._replicas, self._tool))
        return other if soon_s < self._until - now and self._router.hedges.take() else None

    async def _at(self, upstream: Upstream, asks: bool = True) -> ToolResult:
        """The call at one replica. Raises: _Moved, UncertainError, ProtocolError; InputRequired, EdgeError from the host."""
        seen, device, circuit = upstream.seen, upstream.circuits.of(DEVICE), upstream.circuits.of(self._tool)
        flight = seen.begin(self._tool, self._clock(), upstream.load, usual_s(self._replicas, self._tool))

        def asked() -> None:
            flight.learns = False  # people take their time
            self._asked = True
            self._router.settle(self._asking, upstream)

        device.begin()
        circuit.begin()
        if self._stream:
            self._router.settle(self._stream, upstream)
        try:
            result = await self._passing.to(upstream, self._progress, asks, asked)
        except NotSent as error:
            self._not_before[upstream] = self._clock() + _AGAIN_S
            device.left()
            circuit.left()
            raise _Moved(f"{upstream.name}: {error}") from error
        except ConnectionClosed as error:
            device.failed(self._clock())
            circuit.left()
            raise self._lost(upstream, error) from error
        except CallError as error:
            device.worked()
            raise self._refused(upstream, error) from error
        except asyncio.CancelledError:
            seen.left(flight, self._clock(), upstream.rtt_s)
            device.left()
            circuit.left()
            raise
        except BaseException:  # what the host says to the device's questions
            device.worked()
            circuit.left()
            raise
        finally:
            seen.lost(flight)
        device.worked()
        return self._judged(upstream, flight, result)

    def _lost(self, upstream: Upstream, error: ConnectionClosed) -> Exception:
        if self._repeatable:
            return _Moved(f"the connection to {upstream.name} was lost: {error}", lost=True)
        hint = "The call may have been made: the tool does not say that it may be called twice"
        return UncertainError(f"the connection to {upstream.name} was lost before the answer came ({error})", hint)

    def _refused(self, upstream: Upstream, error: CallError) -> Exception:
        """What follows from a JSON-RPC error."""
        told = ProtocolError(error.code, error.message, error.data)
        if error.code != INTERNAL_ERROR:
            upstream.circuits.of(self._tool).worked()
            return told
        upstream.circuits.of(self._tool).failed(self._clock())
        self._not_before[upstream] = math.inf
        return _Moved(f"{upstream.name}: {error}", told) if self._repeatable else told

    def _judged(self, upstream: Upstream, flight: Flight, result: ToolResult) -> ToolResult:
        """Raises: _Moved."""
        now, circuit = self._clock(), upstream.circuits.of(self._tool)
        error = Result(result, self._passing.arguments.codec).refusal(self._tool) if result.isError else None
        if not isinstance(error, BusyError | EngineError) or error.retry_after_ms is None:
            circuit.worked()
            upstream.seen.answered(flight, now, upstream.rtt_s)
            self._router.hedges.answered(self._tool, now - flight.begun)
            return result
        wait_s = error.retry_after_ms / 1000
        self._not_before[upstream] = now + wait_s * (1 + self._router.chance() / 4)
        if isinstance(error, EngineError):
            circuit.failed(now)
            if not self._repeatable:
                return result
        elif error.reason == STOPPING:
            circuit.left()
            upstream.circuits.of(DEVICE).rest(now + wait_s)
        elif error.reason == "deadline":
            circuit.left()  # of this call: others may have more time
        else:
            circuit.rest(now + wait_s * (REST if error.reason == "queue" else 1))
        raise _Moved(f"{upstream.name}: {error}", result)
