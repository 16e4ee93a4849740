"""Memory pressure that the kernel tells of by itself: the event loop is woken by it, and by nothing else."""

import asyncio
import logging
import os
import select
import stat
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

PRESSURE = Path("/proc/pressure/memory")
STALL = b"some 100000 2000000"
"""Some task waited for memory for 100 of 2000 ms, which is where `governor.MEMORY_PRESSURE` begins. Who is not root may ask for
windows of whole multiples of 2 s only (Linux 6.4 and later; before that not at all)."""


class Trigger:
    """Calls `told` each time that the file `fd` has something urgent to say (EPOLLPRI); of pressure at most once a window.

    A file of `/proc/pressure` is always readable too, which asyncio would wait for: so it is watched by an epoll of its own.
    """

    def __init__(self, fd: int, told: Callable[[], None]) -> None:
        """Takes `fd` over."""
        self._fd = fd
        self._told = told
        self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLPRI | select.EPOLLET)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._on_event)

    @classmethod
    def open(
        cls, told: Callable[[], None], pressure: Path = PRESSURE, environment: Mapping[str, str] = os.environ
    ) -> "Trigger | None":
        """On what systemd names to a service, else on the whole device; None where the kernel has no PSI, or forbids it."""
        file, stall = _named(environment) or (pressure, STALL)
        try:
            fd = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            logger.debug("%s tells of no pressure: %s", file, error.strerror)
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):  # /dev/null: systemd says that nobody is to watch
                raise OSError(0, "it is no file of the kernel's")
            os.write(fd, stall + b"\0")
            return cls(fd, told)
        except OSError as error:
            logger.debug("%s tells of no pressure: %s", file, error.strerror)
            os.close(fd)
            return None

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._fd)

    def _on_event(self) -> None:
        self._epoll.poll(0)  # this event is seen; whether the file still says so is no matter
        self._told()


def _named(environment: Mapping[str, str]) -> tuple[Path, bytes] | None:
    """The file and what to write into it (systemd.io/MEMORY_PRESSURE)."""
    file = environment.get("MEMORY_PRESSURE_WATCH", "")
    try:
        stall = b64decode(environment.get("MEMORY_PRESSURE_WRITE", ""), validate=True)
    except ValueError:
        stall = b""
    return (Path(file), stall.rstrip(b"\0") or STALL) if file.startswith("/") else None
