"""One engine process as the server sees it: started, its lanes connected, its end noticed and explained."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import edge_mcp
from edge_mcp.engine.channel import Deframer, encode
from edge_mcp.engine.memory import keep_freed
from edge_mcp.engine.messages import Progress, Reply, Request, Run
from edge_mcp.engine.stages import Stages
from edge_mcp.errors import ChannelError, EngineError

logger = logging.getLogger(__name__)

# Ends that a request can bring about by itself; any other signal came from outside and says nothing about the request.
SEND_BYTES = 1 << 20
"""Of a lane, as far as the system allows: a tensor or a picture goes in whole."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS})


class EngineDied(Exception):
    """The engine ended under a request. `started`: it had taken the request up; `blame`: the request may have caused it."""

    def __init__(self, reason: str, started: bool, blame: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.started = started
        self.blame = blame


class Lane(asyncio.Protocol):
    """The server's end of a lane: one request at a time, answered by one reply."""

    def __init__(self, process: "EngineProcess") -> None:
        self._process = process
        self._deframer: Deframer[Reply | Progress] = Deframer(Reply | Progress)
        self._progress: Callable[[Progress], None] = _ignored
        self._finished: Callable[[], None] = _nothing
        self._transport: asyncio.WriteTransport | None = None
        self.pending: asyncio.Future[Reply] | None = None
        self.sequence = 0

    def request(
        self,
        message: Request,
        progress: Callable[[Progress], None] | None = None,
        finished: Callable[[], None] | None = None,
    ) -> asyncio.Future[Reply]:
        """Send `message`; the future has the reply, or EngineDied. Raises: ChannelError (too large).

        `finished` is called when the lane has its reply, or gets none any more: also where the future was cancelled meanwhile.
        """
        frame = encode(message)
        self._progress = progress or _ignored
        self._finished = finished or _nothing
        self.pending = future = asyncio.get_running_loop().create_future()
        self.sequence = message.sequence if isinstance(message, Run) else 0
        if self._transport is None or self._transport.is_closing():
            self._process.kill("its channel is closed")
        else:
            self._transport.write(frame)
        if self._process.ended is not None:
            self.fail(self._process.ended)
        return future

    def fail(self, died: EngineDied) -> None:
        """End the pending request, if there is one."""
        future, self.pending = self.pending, None
        if future is None:
            return
        if not future.done():
            future.set_exception(died)
        self._finished()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socketpair is watched."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - narrows the type for mypy
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: the engine sent something."""
        try:
            replies = self._deframer.feed(data)
        except ChannelError as error:
            self._process.kill(str(error))
            return
        for reply in replies:
            if isinstance(reply, Progress):
                self._progress(reply)
                continue
            future, self.pending = self.pending, None
            if future is None:
                self._process.kill("it answered what was not asked")
                continue
            if not future.done():
                future.set_result(reply)
            self._finished()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the engine closed its end, which it does only by ending."""
        try:
            self._deframer.finish()
        except ChannelError as error:
            logger.warning("engine: %s", error)
        self._process.kill("it closed its channel")

    def close(self) -> None:
        """Close the server's end; the engine's thread then returns."""
        if self._transport is not None:
            self._transport.close()


class EngineProcess:
    """A running engine. `exited` is done once it has ended and every pending request has been told."""

    def __init__(self, popen: subprocess.Popen[bytes], stages: Stages, pidfd: int) -> None:
        self.pid = popen.pid
        self.lanes: list[Lane] = []
        self.ended: EngineDied | None = None
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._popen = popen
        self._stages = stages
        self._pidfd = pidfd
        self._killed = ""
        self._stopping = False
        self._oom_kills = _oom_kills()

    @classmethod
    async def start(cls, lanes: int) -> "EngineProcess":
        """Start an engine with `lanes` lanes; it reads requests as soon as it is up. Raises: EngineError."""
        loop = asyncio.get_running_loop()
        keep_freed()  # tensors will pass through here
        stages_fd = Stages.create(lanes)
        pairs = [socket.socketpair() for _ in range(lanes)]
        for ours, _ in pairs:  # what does not fit in is written in pieces, each of them a turn of the loop
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        theirs = [pair[1].fileno() for pair in pairs]
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220 - returns after fork and exec, a few milliseconds
                [sys.executable, "-P", "-m", "edge_mcp.engine.host", str(os.getpid()), str(stages_fd), *map(str, theirs)],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the server, which then ends the engine: also one that is not up yet
                stdout=2,
                pass_fds=[stages_fd, *theirs],
                env=_environment(),
            )
        except OSError as error:
            for pair in pairs:
                pair[0].close()
            raise EngineError(f"the engine cannot be started: {error.strerror or error}", retry_after_ms=5000) from error
        finally:
            for pair in pairs:
                pair[1].close()
            stages = Stages(stages_fd, lanes)
            os.close(stages_fd)
        self = cls(popen, stages, os.pidfd_open(popen.pid))
        loop.add_reader(self._pidfd, self._on_exit)
        for ours, _ in pairs:
            _, lane = await loop.create_unix_connection(lambda: Lane(self), sock=ours)
            self.lanes.append(lane)
        logger.debug("engine %d started with %d lanes", self.pid, lanes)
        return self

    def kill(self, reason: str) -> None:
        """End the process at once because of `reason`; pending requests fail as soon as it is gone."""
        if self.ended is None and not self._killed:
            self._killed = reason
            self._popen.kill()

    async def stop(self, why: str) -> None:
        """Close the lanes and wait for the end; what still runs is killed."""
        self._killed = self._killed or why
        self._stopping = True
        for lane in self.lanes:
            lane.close()
        idle = all(lane.pending is None for lane in self.lanes)
        done, _ = await asyncio.wait([self.exited], timeout=0.5 if idle else 0)
        if not done:
            self._popen.kill()
            await self.exited

    def _on_exit(self) -> None:
        """The pidfd is readable: reap the process, and tell every pending request why it ended."""
        status = self._popen.wait()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        reason, blame = self._explain(status)
        logger.log(logging.DEBUG if self._stopping else logging.WARNING, "engine: %s", reason)
        self.ended = EngineDied(reason, started=False, blame=False)
        for index, lane in enumerate(self.lanes):
            sequence, stage = self._stages.read(index)
            # A request without a sequence is a load or describe: the engine reads nothing else meanwhile, so it had started.
            started = lane.sequence == 0 or (sequence == lane.sequence and stage != "idle")
            where = f" while {stage}" if lane.sequence and started else ""
            lane.fail(EngineDied(reason + where, started, blame))
            lane.close()
        self._stages.close()
        self.exited.set_result(None)

    def _explain(self, status: int) -> tuple[str, bool]:
        """Why the process ended with this `Popen` status, in words, and whether a request may be to blame."""
        if status >= 0:
            return f"the engine exited with status {status}", False
        number = -status
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if number == signal.SIGKILL and self._killed and self._killed != "it closed its channel":
            return f"the engine was stopped: {self._killed}", True
        if number == signal.SIGKILL and _oom_kills() > self._oom_kills:
            return "the engine was killed by the system: out of memory", True
        crashed = number in _CRASHES
        return f"the engine {'crashed' if crashed else 'was killed from outside'} ({name})", crashed


def _ignored(progress: Progress) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """Nobody waits for the lane."""


def _environment() -> dict[str, str]:
    """The engine finds this very package; its libraries start no threads that the scheduler does not know of, and send nothing
    to their makers (ONNX Runtime's telemetry is on by default)."""
    home = str(Path(edge_mcp.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    own = {name: value for name, value in os.environ.items() if name != "EDGE_MCP_TOKEN"}  # it has no use for it
    return {**own, **settings, "PYTHONPATH": f"{home}{os.pathsep}{inherited}" if inherited else home}


def _oom_kills() -> int:
    """How many processes this system has killed for lack of memory since it booted (0 where the kernel does not count)."""
    try:
        lines = Path("/proc/vmstat").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
