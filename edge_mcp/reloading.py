"""SIGHUP: the models are looked at and the settings are read anew, and no connection is lost."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from edge_mcp.config import PREFIX, Config
from edge_mcp.errors import EdgeError
from edge_mcp.systemd import Manager

logger = logging.getLogger(__name__)


@contextmanager
def reloading(
    take_up: Callable[[Callable[[], Config]], Awaitable[Config]],
    status: Callable[[], Awaitable[str]],
    rescan: Callable[[], None],
    manager: Manager,
    up: asyncio.Event,
    reread: Callable[[], Config],
) -> Iterator[None]:
    """Meanwhile SIGHUP reloads, once the server is `up`; of a process at a terminal it still means that the terminal is gone.

    Settings that are wrong (`reread`, which `take_up` calls, raises EdgeError) are told in one line, and nothing changes.
    """
    asked = asyncio.Event()

    async def reload() -> None:
        await up.wait()  # what systemd is told at the end of a reload means during the start that the start is over
        while await asked.wait():
            asked.clear()
            manager.reloading()
            rescan()
            try:
                level = (await take_up(reread)).log_level
                logging.getLogger().setLevel(level.upper())
                os.environ[f"{PREFIX}LOG_LEVEL"] = level  # of engines that start from now on
            except (EdgeError, OSError) as error:
                logger.error("the settings stay as they were: %s", error)
            except Exception:  # of ours, and the next SIGHUP shall be heard
                logger.exception("the settings could not be taken up")
            manager.ready(await status())

    loop = asyncio.get_running_loop()
    task = loop.create_task(reload())
    if not os.isatty(0):
        loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        yield
    finally:
        task.cancel()
