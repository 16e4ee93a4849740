"""Runs a program for what it writes: in a process group of its own, bounded in time and size, with no thread and no shell."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from edge_mcp.errors import SensorError

_CHUNK = 256 * 1024
_MAX_ERRORS = 4096
_REAPED_S = 1.0
"""How long a process may take to end once it is killed; the kernel may hold one that waits for a device for longer."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a program wrote, and its exit status (below 0: the signal that ended it); `errors` is the end of stderr."""

    status: int
    data: bytes
    errors: str


async def output_of(command: Sequence[str], limit_s: float, most: int, environment: Mapping[str, str] | None = None) -> Output:
    """Run `command` to its end and return what it wrote to stdout; what is left of its process group is killed then.

    Raises: SensorError when it cannot be started, runs longer than `limit_s` or writes more than `most` bytes.
    """
    child = _Child(command, most, environment)
    try:
        async with asyncio.timeout(limit_s):
            await child.ended
    except TimeoutError:
        raise SensorError(f"it took longer than {limit_s:g} s", "See what it waits for, or raise sensor_timeout_s") from None
    finally:
        await child.close()
    if child.flooded:
        raise SensorError(f"it gave more than {most >> 20} MiB", "Let it give a smaller picture, or a shorter sound")
    return Output(child.status, bytes(child.data), child.errors.decode("utf-8", "replace"))


class _Child:
    """One running program. `ended` is done when it has exited, or has written too much."""

    def __init__(self, command: Sequence[str], most: int, environment: Mapping[str, str] | None) -> None:
        self.data = bytearray()
        self.errors = b""
        self.flooded = False
        self.status = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        try:
            self._popen = subprocess.Popen(  # returns after fork and exec, a few milliseconds
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=environment,
            )
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise SensorError(f"{command[0][:100]!r} cannot be started: {reason}", "Install it, or correct its name") from error
        self._pidfd = os.pidfd_open(self._popen.pid)
        self._pipes = [pipe for pipe in (self._popen.stdout, self._popen.stderr) if pipe is not None]
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)
            self._loop.add_reader(pipe.fileno(), self._read, pipe.fileno())
        self._loop.add_reader(self._pidfd, self._on_exit)

    async def close(self) -> None:
        """Kill what still runs, and let go of it."""
        for pipe in self._pipes:
            self._loop.remove_reader(pipe.fileno())
            pipe.close()
        if not self._exited.done():
            self._kill_group()
            await asyncio.wait([self._exited], timeout=_REAPED_S)

    def _read(self, fd: int) -> bool:
        """Take what there is; False when there is nothing more, for now or for good."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(fd)
            return False
        if fd == self._pipes[0].fileno():
            self.data += chunk
            if len(self.data) > self._most:
                self.flooded = True
                self._loop.remove_reader(fd)
                self._end()
                return False
        else:
            self.errors = (self.errors + chunk)[-_MAX_ERRORS:]
        return True

    def _on_exit(self) -> None:
        """The pidfd is readable: the program has exited, and its number is its group's own until it is reaped."""
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._kill_group()
        self.status = self._popen.wait()
        for pipe in self._pipes:
            while not pipe.closed and self._read(pipe.fileno()):
                continue
        self._exited.set_result(None)
        self._end()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
