"""Calls that go on with one stream, one after the other in the order in which they came."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from weakref import WeakValueDictionary

import msgspec

from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.jsonrpc import UNDECODABLE


class _Named(msgspec.Struct):
    """All that the server reads of the arguments."""

    stream: str = ""


class Turns:
    """One lock for each stream in use, of one model."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    def of(self, owner: str, arguments: Arguments) -> AbstractAsyncContextManager[None]:
        """For as long as the call takes. What is wrong with the arguments is for the engine to say."""
        try:
            name = arguments.decode(_Named).stream
        except UNDECODABLE:
            name = ""
        if not name:
            return nullcontext()
        lock = self._locks.get((owner, name))
        if lock is None:
            lock = self._locks[owner, name] = asyncio.Lock()
        return lock
