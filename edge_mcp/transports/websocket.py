"""MCP over WebSocket on aiohttp: subprotocol `mcp`, one message per text frame."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable

from aiohttp import WSCloseCode, WSMsgType, web

from edge_mcp.errors import ConnectionClosed
from edge_mcp.transports.base import Frame, Peer
from edge_mcp.transports.distance import is_far
from edge_mcp.transports.wheel import Wheel

SUBPROTOCOL = "mcp"
# A peer that is still sending would lose the close frame to a TCP reset if its bytes were left unread, so they are thrown
# away for a moment first.
_LINGER_S = 1.0
_MAX_REASON = 123  # bytes (RFC 6455, 5.5)


class WebSocketConnection:
    """An accepted WebSocket; see transports.base.Connection. A frame beyond the limit ends it with 1009 and the reason.

    `take` counts a message of an address, and says how many seconds too early it comes; such a one ends it with 1013.
    `pulse` is its place on the wheel, for which it is a wheel.Line.
    """

    encoding = "json"
    half_close = False

    def __init__(
        self,
        socket: "BoundedWebSocket",
        request: web.BaseRequest,
        peer: Peer,
        wheel: Wheel,
        take: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self.peer = peer
        self.transport = request.transport
        self._socket = socket
        self._take = take
        self.pulse = wheel.add(self, is_far(request.headers, peer.address))
        socket.watch(request, self.pulse.heard)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.PONG:
                self.pulse.ponged(message.data)
                continue
            if message.type is WSMsgType.PING:
                if self.pulse.pinged():
                    await self._socket.pong(message.data)
                    continue
                await self._end(WSCloseCode.POLICY_VIOLATION, "too many pings")
                return
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) and (wait := self._take(self.peer.address)):
                await self._end(WSCloseCode.TRY_AGAIN_LATER, f"too many messages. Try again in {math.ceil(wait)} s")
                return
            if message.type is WSMsgType.TEXT:
                yield message.data
            elif message.type is WSMsgType.BINARY:
                await self._end(WSCloseCode.UNSUPPORTED_DATA, f"subprotocol {SUBPROTOCOL} has text frames only")
                return
            else:
                return

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        try:
            await self._socket.send_frame(frame, WSMsgType.TEXT)
            self.pulse.sent()
        except (ConnectionError, RuntimeError) as error:  # RuntimeError: aiohttp's word for a socket that is closing
            raise ConnectionClosed("the WebSocket is closed") from error

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        await self._end(WSCloseCode.GOING_AWAY, reason)

    def ping(self, payload: bytes) -> None:
        """See wheel.Line."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(bytes((0x89, len(payload))) + payload)  # RFC 6455, 5.2: final, opcode 9, not masked

    async def drain(self) -> None:
        """See wheel.Line."""
        for _ in range(3):
            await asyncio.sleep(0)

    def drop(self, reason: str) -> None:
        """See wheel.Line."""
        if self.transport is not None:
            self.transport.abort()

    async def _end(self, code: int, reason: str) -> None:
        self.pulse.close()
        await self._socket.close(code=code, message=reason.encode()[:_MAX_REASON])


class BoundedWebSocket(web.WebSocketResponse[bool]):
    """aiohttp's WebSocket, which also says why it ends when a frame was too large."""

    def __init__(self, limit: int) -> None:
        super().__init__(protocols=[SUBPROTOCOL], compress=False, max_msg_size=limit, decode_text=False, autoping=False)
        self._limit_reason = f"message larger than {limit} bytes (max_message_mb)"

    def watch(self, request: web.BaseRequest, heard: Callable[[], None]) -> None:
        """Call `heard` whenever bytes come."""
        request.protocol._data_received_cb = heard

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """See aiohttp."""
        if code != WSCloseCode.MESSAGE_TOO_BIG or self.closed:
            return await super().close(code=code, message=message, drain=drain)
        reason = self._limit_reason.encode()
        await self.send_frame(code.to_bytes(2) + reason, WSMsgType.CLOSE)
        await asyncio.sleep(_LINGER_S)
        return await super().close(code=code, message=reason, drain=drain)
