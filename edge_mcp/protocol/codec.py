"""How messages are written: as JSON, or as MessagePack (protocol/messagepack.py). A conversation has one for all its length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.jsonrpc import Envelope, RequestId

T = TypeVar("T")


class Codec(Protocol):
    """All of a conversation that depends on how its messages are written. Frames are those of JSON-RPC.

    `name` is what a connection's `encoding` says, `title` what a user reads, `empty` an object of nothing.
    """

    name: str
    title: str
    empty: bytes

    def encode(self, value: Any) -> bytes:
        """A value, which may have parts that are encoded already (`msgspec.Raw`), and bytes."""
        ...

    def decode(self, data: bytes | msgspec.Raw, kind: type[T]) -> T:
        """A value of type `kind`. Raises: one of jsonrpc.UNDECODABLE."""
        ...

    def plain(self, value: Any) -> Any:
        """What was decoded as JSON has it: bytes as base64."""
        ...

    def told(self, value: Any) -> tuple[str, bytes]:
        """A result: JSON for a language model to read, and the value encoded."""
        ...

    def envelope(self, frame: bytes) -> Envelope:
        """See jsonrpc.decode."""
        ...

    def request_id(self, raw: msgspec.Raw) -> RequestId:
        """See jsonrpc.request_id."""
        ...

    def find_id(self, head: bytes, tail: bytes) -> RequestId | None:
        """See jsonrpc.find_id."""
        ...

    def is_batch(self, frame: bytes) -> bool:
        """Whether a frame looks like a batch."""
        ...

    def parts(self, frame: bytes, most: int) -> list[bytes]:
        """See jsonrpc.parts."""
        ...

    def joined(self, frames: Sequence[bytes]) -> bytes:
        """The batch of these."""
        ...

    def result(self, request_id: RequestId, value: Any) -> bytes:
        """See jsonrpc.result."""
        ...

    def error(self, request_id: RequestId | None, code: int, message: str, data: Any = msgspec.UNSET) -> bytes:
        """See jsonrpc.error."""
        ...

    def notification(self, method: str, params: Any) -> bytes:
        """See jsonrpc.notification."""
        ...

    def call(self, request_id: RequestId, method: str, params: Any) -> bytes:
        """See jsonrpc.call."""
        ...


class Json:
    """Bytes are written as base64, and what is no finite number as null. See Codec."""

    name = "json"
    title = "JSON"
    empty = b"{}"
    encode = staticmethod(msgspec.json.Encoder().encode)
    envelope = staticmethod(jsonrpc.decode)
    request_id = staticmethod(jsonrpc.request_id)
    find_id = staticmethod(jsonrpc.find_id)
    parts = staticmethod(jsonrpc.parts)
    result = staticmethod(jsonrpc.result)
    error = staticmethod(jsonrpc.error)
    notification = staticmethod(jsonrpc.notification)
    call = staticmethod(jsonrpc.call)

    def decode(self, data: bytes | msgspec.Raw, kind: type[T]) -> T:
        """See Codec."""
        return msgspec.json.decode(data, type=kind)

    def plain(self, value: Any) -> Any:
        """See Codec."""
        return value

    def told(self, value: Any) -> tuple[str, bytes]:
        """See Codec."""
        encoded = self.encode(value)
        return encoded.decode(), encoded

    def is_batch(self, frame: bytes) -> bool:
        """See Codec."""
        return frame.lstrip()[:1] == b"["

    def joined(self, frames: Sequence[bytes]) -> bytes:
        """See Codec."""
        return b"[" + b",".join(frames) + b"]"


JSON: Codec = Json()


def codec_of(name: str) -> Codec:
    """The codec of this name. Raises: KeyError."""
    if name == "msgpack":
        from edge_mcp.protocol.messagepack import MSGPACK  # its decoders are for those who speak it

        return MSGPACK
    return {"json": JSON}[name]


@dataclass(frozen=True, slots=True)
class Arguments:
    """A call's arguments as the peer wrote them."""

    data: bytes = b""
    codec: Codec = JSON

    def decode(self, kind: type[T]) -> T:
        """As an object of type `kind`. Raises: one of jsonrpc.UNDECODABLE."""
        return self.codec.decode(self.data or self.codec.empty, kind)
