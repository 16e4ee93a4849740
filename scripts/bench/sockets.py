"""The WebSocket servers of `websocket`, bare: each gives back what it is sent.

sockets.py aiohttp|websockets|picows PORT [deflate]
"""

import asyncio
import sys
from typing import Any


async def aiohttp(port: int, deflate: bool) -> None:
    """aiohttp, as its users write it."""
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["mcp"], compress=deflate)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/mcp", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.get_running_loop().create_future()


async def websockets(port: int, deflate: bool) -> None:
    """websockets, without its periodic pings."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.typing import Subprotocol

    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    options: dict[str, Any] = {"compression": "deflate" if deflate else None, "ping_interval": None}
    async with serve(echo, "127.0.0.1", port, subprotocols=[Subprotocol("mcp")], **options):
        await asyncio.get_running_loop().create_future()


async def picows(port: int, deflate: bool) -> None:
    """picows, which knows no compression."""
    from picows import (
        WSFrame,
        WSListener,
        WSMsgType,
        WSTransport,
        WSUpgradeRequest,
        WSUpgradeResponse,
        WSUpgradeResponseWithListener,
        ws_create_server,
    )

    class Echo(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            elif frame.msg_type == WSMsgType.TEXT:
                transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())

    def accept(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": "mcp"}), Echo())

    server = await ws_create_server(accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(
        {"aiohttp": aiohttp, "websockets": websockets, "picows": picows}[sys.argv[1]](int(sys.argv[2]), "deflate" in sys.argv)
    )
