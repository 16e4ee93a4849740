"""A server as a child process, spoken to over its standard input and output."""

import asyncio
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.transports.base import MAX_MESSAGE, Frame, Peer

END_S = 2.0
_KEPT_LINES = 100


class StdioServer:
    """A server that was started; see transports.base.Connection.

    `log` gets what the server writes to standard error, line by line, once it has sent a first frame. Until then the lines
    are kept: if the server ends instead, the last one is the reason and becomes part of `why`.
    """

    encoding = "json"
    half_close = False

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport, log: Callable[[str], None]) -> None:
        self.peer = Peer(f"process {process.pid}")
        self.why = ""
        self._process = process
        self._transport = transport
        self._log = log
        self._kept: deque[str] | None = deque(maxlen=_KEPT_LINES)
        self._relay = asyncio.create_task(self._relay_log())
        self._closed = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        log: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
        limit: int = MAX_MESSAGE,
    ) -> "StdioServer":
        """Start `command`. Raises: ConfigError."""
        # As asyncio.create_subprocess_exec does it, but keeping the transport: it alone can close pipes before their end.
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(limit, loop),
                *command,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which then ends its server
            )
        except OSError as error:
            raise ConfigError(f"{command[0]} cannot be started: {error.strerror or error}") from error
        return cls(Process(transport, protocol, loop), transport, log)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection; sets `why` at the end."""
        assert self._process.stdout is not None  # noqa: S101 - narrows the type for mypy
        while True:
            try:
                frame = await self._process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                break
            except asyncio.LimitOverrunError:
                self.why = "the server sent a message that is too large"
                self._transport.close()
                return
            self._release()
            if frame := frame.strip():
                yield frame
        if not self._closed:
            self.why = await self._explain()

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        assert self._process.stdin is not None  # noqa: S101 - narrows the type for mypy
        if self._closed or self._process.stdin.is_closing():
            raise ConnectionClosed("the server has ended")
        self._process.stdin.write(frame + b"\n")
        try:
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise ConnectionClosed("the server has ended") from error

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection; returns when the process is gone, which is killed if it takes longer than `END_S`."""
        self._closed = True
        assert self._process.stdin is not None  # noqa: S101 - narrows the type for mypy
        self._process.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._process.wait()
            self._release()
            if self._process.returncode is not None:
                await self._relayed()
        finally:  # also when this is cancelled: no child is left behind
            self._transport.close()
            await self._process.wait()

    async def _explain(self) -> str:
        """Why the server ended its output."""
        try:
            async with asyncio.timeout(END_S):
                status = await self._process.wait()
        except TimeoutError:
            return "the server closed its standard output"
        await self._relayed()
        if self._kept:
            return f"the server did not start: {self._kept.pop().removeprefix('edge-mcp: ')}"
        if status < 0:
            return f"the server was killed ({signal.Signals(-status).name})"
        return f"the server ended with status {status}"

    async def _relayed(self) -> None:
        """Wait until all of the log is read; a grandchild that holds on to it is not waited for."""
        await asyncio.wait([self._relay], timeout=END_S)
        self._relay.cancel()

    async def _relay_log(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - narrows the type for mypy
        while data := await self._process.stderr.readline():
            line = data.decode(errors="replace").rstrip()
            if self._kept is None:
                self._log(line)
            else:
                self._kept.append(line)

    def _release(self) -> None:
        """The server is up: hand out what was kept, and keep no more."""
        kept, self._kept = self._kept, None
        for line in kept or ():
            self._log(line)
