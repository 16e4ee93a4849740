"""Framing of the channel between server and engine: a 4-byte big-endian length, then one MessagePack struct.

Pure but for `receive` and `send`, which serve the engine's blocking side; the server's side feeds `Deframer` from its loop.
"""

import socket
import struct
from collections.abc import Hashable
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from edge_mcp.errors import ChannelError

# The largest message a peer may send (32 MiB by default) must fit with room for what goes round it.
MAX_FRAME = 256 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()

Message = TypeVar("Message")


def encode(message: object) -> bytearray:
    """One frame. Raises: ChannelError when it would be larger than `MAX_FRAME`."""
    frame = bytearray(_LENGTH.size)
    _encoder.encode_into(message, frame, _LENGTH.size)
    size = len(frame) - _LENGTH.size
    if size > MAX_FRAME:
        raise ChannelError(f"a message of {size} bytes does not fit a frame of at most {MAX_FRAME}")
    _LENGTH.pack_into(frame, 0, size)
    return frame


@cache
def _decoder(message_type: Hashable) -> msgspec.msgpack.Decoder[Any]:
    """One for all lanes of all engines that come and go: it is large for what it does."""
    return msgspec.msgpack.Decoder(message_type)


class Deframer(Generic[Message]):
    """Bytes in, messages of one type out; keeps what is not yet a whole frame."""

    def __init__(self, message_type: Hashable, max_frame: int = MAX_FRAME) -> None:
        self._decoder = _decoder(message_type)
        self._max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Messages that `data` completes. Raises: ChannelError for an oversized or undecodable frame."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + self._size(buffer)
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                messages.append(self._decode(view[_LENGTH.size : end]))
            del buffer[:end]
        return messages

    def finish(self) -> None:
        """The other side closed. Raises: ChannelError when it did so within a frame."""
        if self._buffer:
            raise ChannelError(f"torn frame: the channel closed after {len(self._buffer)} of its bytes")

    def _size(self, buffer: bytearray) -> int:
        size: int = _LENGTH.unpack_from(buffer)[0]
        if size > self._max_frame:
            raise ChannelError(f"oversized frame: {size} bytes announced, at most {self._max_frame} allowed")
        return size

    def _decode(self, body: memoryview) -> Message:
        try:
            message: Message = self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ChannelError(f"undecodable frame of {len(body)} bytes: {error}") from error
        finally:
            body.release()
        return message


class Channel(Generic[Message]):
    """The engine's side of a lane: blocking, one message at a time."""

    def __init__(self, sock: socket.socket, message_type: object, max_frame: int = MAX_FRAME) -> None:
        self._socket = sock
        self._decoder = msgspec.msgpack.Decoder(message_type)
        self._max_frame = max_frame

    def receive(self) -> Message | None:
        """The next message, or None when the other side has closed. Raises: ChannelError."""
        head = self._exactly(_LENGTH.size)
        if not head:
            return None
        size: int = _LENGTH.unpack(head)[0]
        if size > self._max_frame:
            raise ChannelError(f"oversized frame: {size} bytes announced, at most {self._max_frame} allowed")
        body = self._exactly(size)
        if len(body) < size:
            raise ChannelError(f"torn frame: the channel closed after 0 of {size} bytes")
        try:
            message: Message = self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ChannelError(f"undecodable frame of {size} bytes: {error}") from error
        return message

    def send(self, message: object) -> None:
        """Send one message. Raises: ChannelError (too large), OSError (the other side is gone)."""
        self._socket.sendall(encode(message))

    def _exactly(self, size: int) -> bytearray:
        """`size` bytes; fewer (none) only when the other side closed before the first of them. Raises: ChannelError."""
        data = bytearray(size)
        view = memoryview(data)
        got = 0
        while got < size:
            count = self._socket.recv_into(view[got:])
            if count == 0:
                if got:
                    raise ChannelError(f"torn frame: the channel closed after {got} of {size} bytes")
                return bytearray()
            got += count
        return data
