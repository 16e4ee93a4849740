"""From HTTP to WebSocket: the handshake of a request that was let in, and the WebSockets of a listener."""

import asyncio
import base64
import hashlib
import logging

from aiohttp import web

from edge_mcp.protocol.headers import Refusal
from edge_mcp.transports.base import Peer, Serve
from edge_mcp.transports.bounded import BoundedServer
from edge_mcp.transports.deflate import Agreement, agree
from edge_mcp.transports.distance import is_far
from edge_mcp.transports.sse import SERVER
from edge_mcp.transports.websocket import Shared, WebSocketConnection

logger = logging.getLogger(__name__)

ENCODINGS = {"mcp": "json", "mcp.msgpack": "msgpack"}
"""Subprotocols, and how their messages are encoded."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_NAMES = " or ".join(repr(name) for name in ENCODINGS)


class Sockets:
    """A listener's WebSockets, each served by a task of its own. `deflate`: whether compression is agreed on."""

    def __init__(self, serve: Serve, shared: Shared, deflate: bool = True) -> None:
        self._serve = serve
        self._shared = shared
        self.deflate = deflate
        self._tasks: dict[asyncio.Task[None], WebSocketConnection] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def upgrade(self, request: web.BaseRequest, peer: Peer, server: BoundedServer) -> Refusal | None:
        """Take the request's connection over and serve it; a Refusal says why not."""
        if not web.WebSocketResponse(compress=False).can_prepare(request):
            return Refusal(400, f"open a WebSocket of version 13, with the subprotocol {_NAMES}")
        offered = [name.strip() for name in ",".join(request.headers.getall("Sec-WebSocket-Protocol", [])).split(",")]
        known = [name for name in offered if name in ENCODINGS]
        if offered != [""] and not known:
            return Refusal(400, f"offer the WebSocket subprotocol {_NAMES}, or none")
        offers = ",".join(request.headers.getall("Sec-WebSocket-Extensions", []))
        agreed = agree(offers) if self.deflate else None
        encoding = ENCODINGS[known[0]] if known else "json"
        transport, rest, left = server.hand_over(request.protocol)
        transport.write(_switching(request.headers["Sec-WebSocket-Key"], known[0] if known else "", agreed))
        far = is_far(request.headers, peer.address)
        connection = WebSocketConnection(self._shared, transport, peer, encoding, agreed, far, left)
        transport.set_protocol(connection)
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks[task] = connection
        task.add_done_callback(self._tasks.pop)
        if rest:
            connection.received(rest)
        return None

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(connection.close("the server is stopping") for connection in self._tasks.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, connection: WebSocketConnection) -> None:
        try:
            await self._serve(connection)
        except Exception:
            logger.exception("a WebSocket failed unexpectedly")
        finally:
            await connection.close()


def _switching(key: str, protocol: str, agreed: Agreement | None) -> bytes:
    """The answer that ends HTTP on this connection (4.2.2)."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept, "Server": SERVER}
    if protocol:
        fields["Sec-WebSocket-Protocol"] = protocol
    if agreed is not None:
        fields["Sec-WebSocket-Extensions"] = agreed.header()
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
