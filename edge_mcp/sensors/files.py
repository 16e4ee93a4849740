"""Files that stand in for a camera or a microphone."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from edge_mcp.errors import SensorError
from edge_mcp.sensors.settings import MEDIA_OF

T = TypeVar("T")


class Files:
    """Reads one sensor's file, or its folder's next. A read that hangs is left behind, and no other begins before it ends."""

    def __init__(self, path: Path, folder: bool, most: int) -> None:
        self._path = path
        self._folder = folder
        self._most = most
        self._last = ""
        self._reading = threading.Lock()

    async def read(self) -> bytes:
        """The file's bytes. Raises: SensorError."""
        if not self._reading.acquire(blocking=False):
            raise SensorError("an earlier read of it still hangs", f"See whether {self._path} can be read on the device")
        return await _in_thread(self._next if self._folder else lambda: self._content(self._path), self._reading)

    def _next(self) -> bytes:
        """The file after the last one in the order of their names; after the last of all the first."""
        try:
            with os.scandir(self._path) as entries:
                names = sorted(entry.name for entry in entries if _is_medium(entry))
        except OSError as error:
            raise SensorError(f"the folder {self._path} cannot be read: {error.strerror}", "Correct its path") from error
        if not names:
            raise SensorError(f"there is no picture and no sound in {self._path}", f"Put {', '.join(MEDIA_OF)} files there")
        name = next((name for name in names if name > self._last), names[0])
        content = self._content(self._path / name)
        self._last = name
        return content

    def _content(self, path: Path) -> bytes:
        try:
            # Not blocking: a FIFO or a device in its place must not hang the read.
            with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise SensorError(f"{path} is not a regular file", "Name a file")
                content = file.read(self._most + 1)
        except OSError as error:
            raise SensorError(f"{path} cannot be read: {error.strerror}", "Correct its path, or who may read it") from error
        if len(content) > self._most:
            raise SensorError(f"{path} is larger than {self._most >> 20} MiB", "Put a smaller one there")
        return content


def _is_medium(entry: os.DirEntry[str]) -> bool:
    suffix = entry.name.rpartition(".")[2].lower()
    return suffix in MEDIA_OF and not entry.name.startswith(".") and entry.is_file()


async def _in_thread(work: Callable[[], T], held: threading.Lock) -> T:
    """Do `work` in a thread that cannot keep the process alive; `held` is released at its end. Raises: what `work` does."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - whoever waits gets it
            error = raised
        finally:
            held.release()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    try:
        threading.Thread(target=run, name="sensor", daemon=True).start()
    except RuntimeError as error:
        held.release()
        raise SensorError(f"no thread can be started: {error}", "Call again later") from error
    return await future
