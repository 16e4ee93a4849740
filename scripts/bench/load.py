"""The thin client: callers that each send a `tools/call` as soon as their last one is answered, without an SDK.

A call is a prefix, a number and a suffix, written in advance; of an answer only its end and one word are looked for.
"""

import os
import re
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Protocol

FIRST_ID = 1_000_000_000  # every call has the same length
TIMEOUT_S = 60
_PROOF = b"structuredContent"  # in every good answer, once
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.I)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Load:
    """What a server did under load."""

    calls: int
    seconds: float
    cpu_seconds: float
    waited_seconds: float
    """For how long this client and the server had work and no processor, because of their neighbours or each other."""

    @property
    def calls_per_s(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU time per call."""
        return self.cpu_seconds / self.calls * 1e6


class Lane(Protocol):
    """A byte stream to a server, shared by `callers`."""

    callers: int

    def fileno(self) -> int:
        """The descriptor that answers come from."""
        ...

    def send(self, count: int) -> None:
        """Send `count` calls."""
        ...

    def receive(self) -> int:
        """Read what there is; how many answers it completes. Raises: ConnectionError for one that is not good."""
        ...


def load(pid: int, lanes: Sequence[Lane], seconds: float) -> Load:
    """Let every caller call for `seconds`, and wait for the last answers. Raises: OSError."""
    by_fd = {lane.fileno(): lane for lane in lanes}
    calls, due = 0, sum(lane.callers for lane in lanes)
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        cpu, waited, started = cpu_seconds(pid), waited_seconds(pid), time.perf_counter()
        for lane in lanes:
            lane.send(lane.callers)
        while due:
            ready = poll.poll(TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"{due} calls were not answered in {TIMEOUT_S} s")
            again = time.perf_counter() < started + seconds
            for fd, _ in ready:
                done = by_fd[fd].receive()
                calls += done
                if again and done:
                    by_fd[fd].send(done)
                else:
                    due -= done
        elapsed = time.perf_counter() - started
        return Load(calls, elapsed, cpu_seconds(pid) - cpu, waited_seconds(pid) - waited)


def calmer_half(measured: Sequence[Load]) -> list[Load]:
    """The rounds that the machine's other work disturbed least."""
    calmest = sorted(measured, key=lambda one: one.waited_seconds / one.seconds)
    return calmest[: (len(measured) + 1) // 2]


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, with that of its threads that have ended; in steps of 10 ms."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  (the clock runs)
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waited_seconds(pid: int) -> float:
    """How long the threads of a process, and this one, have waited for a processor."""
    tasks = [Path("/proc/self"), *Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text("ascii").split()[1]) for task in tasks) / 1e9


class _Calls:
    """What to send, in turn and each time with another number where they have FIRST_ID."""

    def __init__(self, calls: Sequence[bytes]) -> None:
        parted = (call.partition(str(FIRST_ID).encode()) for call in calls)
        self._parts = cycle([(before, after) for before, _, after in parted])
        self._last = FIRST_ID

    def __next__(self) -> bytes:
        self._last += 1
        before, after = next(self._parts)
        return b"%b%d%b" % (before, self._last, after)


class Pipe:
    """A server's standard input and output, where all callers share the one stream; see Lane."""

    def __init__(self, read_fd: int, write_fd: int, lines: Sequence[bytes], callers: int) -> None:
        self.callers = callers
        self._read_fd, self._write_fd = read_fd, write_fd
        self._lines = _Calls(lines)
        self._buffer = b""

    def fileno(self) -> int:
        """See Lane."""
        return self._read_fd

    def send(self, count: int) -> None:
        """See Lane."""
        view = memoryview(b"".join([next(self._lines) for _ in range(count)]))
        while view:
            view = view[os.write(self._write_fd, view) :]

    def receive(self) -> int:
        """See Lane."""
        self._buffer += _read(self._read_fd)
        end = self._buffer.rfind(b"\n") + 1
        lines, self._buffer = self._buffer[:end], self._buffer[end:]
        return _good(lines, lines.count(b"\n"))


class _Connection(ABC):
    """One caller's connection; see Lane."""

    callers = 1

    def __init__(self, connection: socket.socket, calls: Sequence[bytes]) -> None:
        self._calls = _Calls(calls)
        self._socket = connection
        self._buffer = b""

    def fileno(self) -> int:
        """See Lane."""
        return self._socket.fileno()

    def send(self, count: int) -> None:
        """See Lane."""
        self._socket.sendall(next(self._calls))

    def receive(self) -> int:
        """See Lane."""
        self._buffer += _read(self._socket.fileno())
        size = self._size(self._buffer)
        if not size or len(self._buffer) < size:
            return 0
        answer, self._buffer = self._buffer[:size], self._buffer[size:]
        return _good(answer, 1)

    @abstractmethod
    def _size(self, answer: bytes) -> int:
        """The size of the answer that begins so; 0 where that is not to be seen yet."""
        ...


class Post(_Connection):
    """A keep-alive connection of Streamable HTTP; see Lane."""

    def _size(self, answer: bytes) -> int:
        end = answer.find(b"\r\n\r\n")
        if end < 0:
            return 0
        length = _LENGTH.search(answer, 0, end + 2)
        if length is None or not answer.startswith(b"HTTP/1.1 200 "):
            raise _wrong(answer)
        return end + 4 + int(length[1])


class WebSocketMessages(_Connection):
    """A WebSocket, with text or binary messages; see Lane."""

    def _size(self, answer: bytes) -> int:
        if len(answer) < 10:
            return 0
        if answer[0] not in (0x81, 0x82) or answer[1] > 127:
            raise _wrong(answer)
        end = {126: 4, 127: 10}.get(answer[1], 2)
        return end + (int.from_bytes(answer[2:end], "big") if end > 2 else answer[1])


def _read(fd: int) -> bytes:
    data = os.read(fd, _CHUNK)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def _good(answers: bytes, count: int) -> int:
    """`count`, which is how many answers these are. Raises: ConnectionError unless all of them are good."""
    if answers.count(_PROOF) != count:
        raise _wrong(answers)
    return count


def _wrong(answers: bytes) -> ConnectionError:
    return ConnectionError(f"not the right answer: {answers[:600].decode(errors='replace')}")
