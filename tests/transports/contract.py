"""What every transport promises, as tests: a module that imports them gives a `link` fixture for its own transport."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from edge_mcp.errors import ConnectionClosed
from edge_mcp.transports.base import Connection, Frame, Oversized

LIMIT = 1024 * 1024


class OtherEnd:
    """The other end of the connection under test, made without edge-mcp's own code where the transport has a wire."""

    async def send(self, frame: bytes) -> None:
        raise NotImplementedError

    async def receive(self) -> bytes | None:
        """The next frame; None at the end."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


@dataclass
class Link:
    """A connection and its peer; `serve` runs a coroutine function on the connection's side."""

    connect: Callable[[Callable[[Connection], Awaitable[None]]], Awaitable[OtherEnd]]


async def settled(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for cancelled tasks, and raise what went wrong in one before."""
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


class Received:
    """Collects what a connection yields."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.ended = False
        self._changed = asyncio.Condition()

    async def serve(self, connection: Connection) -> None:
        async for frame in connection:
            await self._note(frame)
        await self._note(None)

    async def _note(self, frame: Frame | None) -> None:
        async with self._changed:
            self.frames += [] if frame is None else [frame]
            self.ended = frame is None
            self._changed.notify_all()

    async def until(self, satisfied: Callable[[], bool]) -> list[Frame]:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(satisfied)
        return self.frames


async def echo(connection: Connection) -> None:
    async for frame in connection:
        assert isinstance(frame, bytes)
        await connection.send(frame)


async def test_frames_arrive_whole_and_in_order_whatever_their_size(link: Link) -> None:
    received = Received()
    peer = await link.connect(received.serve)
    sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * size) for n, size in enumerate([0, 1, 10, 70_000, 3, LIMIT - 100, 5])]
    for frame in sent:
        await peer.send(frame)
    assert await received.until(lambda: len(received.frames) >= len(sent)) == sent
    await peer.close()


async def test_answers_arrive_whole_and_in_order_whatever_their_size(link: Link) -> None:
    peer = await link.connect(echo)
    async with asyncio.timeout(30):
        for size in (0, 1, 70_000, 3, LIMIT - 100):
            frame = b'{"x":"%s"}' % (b"y" * size)
            await peer.send(frame)
            assert await peer.receive() == frame
    await peer.close()


async def test_frames_sent_at_once_do_not_mix(link: Link) -> None:
    frames = [b'"%s"' % (bytes([97 + n]) * 200_000) for n in range(8)]

    async def serve(connection: Connection) -> None:
        await asyncio.gather(*(connection.send(frame) for frame in frames))
        async for _ in connection:
            pass

    peer = await link.connect(serve)
    async with asyncio.timeout(30):
        got = [await peer.receive() for _ in frames]
    assert sorted(frame or b"" for frame in got) == frames
    await peer.close()


async def test_the_iteration_ends_when_the_peer_does(link: Link) -> None:
    received = Received()
    peer = await link.connect(received.serve)
    await peer.send(b'"last"')
    await peer.close()
    assert await received.until(lambda: received.ended) == [b'"last"']


async def test_close_ends_the_iteration_and_is_seen_by_the_peer(link: Link) -> None:
    ended = asyncio.Event()

    async def serve(connection: Connection) -> None:
        async for _ in connection:
            await connection.close("enough")
            await connection.close("twice does no harm")
        ended.set()

    peer = await link.connect(serve)
    await peer.send(b'"x"')
    async with asyncio.timeout(30):
        assert await peer.receive() is None
        await ended.wait()


async def test_nothing_can_be_sent_after_close(link: Link) -> None:
    raised = asyncio.Event()

    async def serve(connection: Connection) -> None:
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await connection.send(b'"x"')
        raised.set()

    peer = await link.connect(serve)
    async with asyncio.timeout(30):
        await raised.wait()
    await peer.close()


async def test_a_peer_that_reads_nothing_stops_the_sender(link: Link) -> None:
    sent = 0
    stuck = asyncio.Event()

    async def serve(connection: Connection) -> None:
        nonlocal sent
        frame = b'"%s"' % os.urandom(250_000).hex().encode()  # which no compression makes small
        try:
            for _ in range(1000):
                await asyncio.wait_for(connection.send(frame), 0.5)
                sent += 1
        except TimeoutError:
            stuck.set()

    peer = await link.connect(serve)
    async with asyncio.timeout(20):
        await stuck.wait()
    assert sent < 100  # what fits into the buffers on the way, and no more
    await peer.close()


async def test_an_oversized_frame_is_never_taken_for_a_message(link: Link) -> None:
    received = Received()
    peer = await link.connect(received.serve)
    try:
        await peer.send(b'"%s"' % (b"y" * (3 * LIMIT)))
        await peer.send(b'"after"')
    except (OSError, ConnectionClosed):
        pass
    await received.until(lambda: received.ended or b'"after"' in received.frames)
    assert not [frame for frame in received.frames if isinstance(frame, bytes) and len(frame) > LIMIT]
    for frame in received.frames:
        if isinstance(frame, Oversized):
            assert (frame.size, frame.limit) == (3 * LIMIT + 2, LIMIT)
    await peer.close()


__all__ = [name for name in globals() if name.startswith("test_")]
