"""What systemd and a service say to each other: readiness and state, the watchdog, and sockets that were opened beforehand.

sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3) in a few lines; where no service manager started this process,
nothing is said and nothing is inherited.
"""

import asyncio
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import NoReturn

from edge_mcp.errors import EdgeError

logger = logging.getLogger(__name__)

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
MAX_SOCKETS = 16
MAX_STATUS = 400
"""Characters of a status line."""
STATUS_S = 60.0
"""Between two of them that nobody asked for: a temperature is another one all the time."""


class Manager:
    """The service manager that started this process, if one did. `clock` gives CLOCK_MONOTONIC in seconds.

    What it left in `environment` is taken out of it, so that no child takes it for its own.
    """

    def __init__(
        self,
        environment: MutableMapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        first_fd: int = FIRST_FD,
    ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._clock = clock
        self._first_fd = first_fd
        self._failed = False
        self._status = ""
        self._due = -math.inf
        mine = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        microseconds = _number(environment.pop("WATCHDOG_USEC", ""))
        self.watchdog_s = microseconds / 1_000_000 if mine else 0.0
        """Within this time `alive` has to be said, again and again; 0: it is not waited for."""
        mine = environment.pop("LISTEN_PID", "") == str(os.getpid())
        count = _number(environment.pop("LISTEN_FDS", ""))
        environment.pop("LISTEN_FDNAMES", None)
        self._count = min(count, MAX_SOCKETS) if mine else 0

    @property
    def listens(self) -> bool:
        """Whether anybody hears what is said."""
        return bool(self._address)

    def sockets(self) -> list[socket.socket]:
        """The listening stream sockets that were opened beforehand; whoever asks first gets them. Others are closed."""
        count, self._count = self._count, 0
        found: list[socket.socket] = []
        for number in range(self._first_fd, self._first_fd + count):
            try:
                opened = socket.socket(fileno=number)
            except OSError as error:
                logger.warning("file descriptor %d, which systemd passed on, is no socket: %s", number, error.strerror)
                continue
            opened.set_inheritable(False)
            opened.setblocking(False)
            if _listening(opened):
                found.append(opened)
            else:
                logger.warning("file descriptor %d, which systemd passed on, does not listen for connections", number)
                opened.close()
        return found

    def ready(self, status: str = "") -> None:
        """The service is up, or has reloaded."""
        self._say("READY=1", *self._changed(status))

    def reloading(self) -> None:
        """The service reads its settings anew; `ready` says that it has."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={int(self._clock() * 1_000_000)}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._say("STOPPING=1")

    def status(self, status: str) -> None:
        """One line for `systemctl status`; said only when it is another one, and at most once a minute."""
        if self._clock() >= self._due and (changed := self._changed(status)):
            self._due = self._clock() + STATUS_S
            self._say(*changed)

    def alive(self) -> None:
        """The watchdog is fed."""
        self._say("WATCHDOG=1")

    def _changed(self, status: str) -> tuple[str, ...]:
        line = " ".join(status.split())[:MAX_STATUS]
        if not line or line == self._status:
            return ()
        self._status = line
        return (f"STATUS={line}",)

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.connect(address)
                channel.send("\n".join(lines).encode())
        except OSError as error:
            if not self._failed:
                logger.warning("systemd cannot be told %s: %s", lines[0], error.strerror or error)
            self._failed = True
        else:
            self._failed = False


async def watchdog(
    manager: Manager, check: Callable[[], Awaitable[None]], wait: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> NoReturn:
    """Feed the watchdog as long as `check` (which raises EdgeError) succeeds in time; and a loop that stands feeds nobody."""
    third = manager.watchdog_s / 3
    while True:
        await wait(third)
        try:
            async with asyncio.timeout(third):
                await check()
        except (EdgeError, TimeoutError) as error:
            logger.error("the watchdog is not fed: %s", str(error) or f"no answer within {third:g} s")
        else:
            manager.alive()


def signalled() -> Awaitable[object]:
    """Catch SIGTERM and SIGINT from now on; what is returned ends when one has arrived."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def arrive() -> None:
        if not arrived.done():
            arrived.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, arrive)
    return arrived


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _listening(opened: socket.socket) -> bool:
    try:
        return (
            opened.family in (socket.AF_INET, socket.AF_INET6)
            and opened.type == socket.SOCK_STREAM
            and opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        )
    except OSError:
        return False
