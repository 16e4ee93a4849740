"""What was received and waits to be read: a bounded number of items, until it is closed."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from edge_mcp.errors import ConnectionClosed

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue whose end wakes all who wait, to put or to get; asyncio's has none before Python 3.13."""

    def __init__(self, room: int) -> None:
        self._most = room
        self._items: deque[T] = deque()
        self._closed = False
        self._room = asyncio.Event()
        self._filled = asyncio.Event()

    async def put(self, item: T) -> None:
        """Add an item, once there is room for it. Raises: ConnectionClosed."""
        while not self._closed and len(self._items) >= self._most:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            raise ConnectionClosed("nobody reads any more")
        self._items.append(item)
        self._filled.set()

    async def get(self) -> T | None:
        """The next item, once there is one; None at the end."""
        while not self._closed and not self._items:
            self._filled.clear()
            await self._filled.wait()
        if self._closed:
            return None
        self._room.set()
        return self._items.popleft()

    def close(self) -> None:
        """End it; what was not read is dropped. Idempotent."""
        self._closed = True
        self._items.clear()
        self._room.set()
        self._filled.set()
