"""A server at the other end of a WebSocket, subprotocol `mcp`."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    InvalidURL,
    WSMsgType,
    WSServerHandshakeError,
)

from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.transports.base import MAX_MESSAGE, Frame, Peer

SUBPROTOCOL = "mcp"
CONNECT_S = 10.0
CLOSE_S = 2.0
_HINT = "An edge-mcp server is at ws://HOST:PORT/mcp"
_START = "Check the address, or start a server there with edge-mcp serve"


class WebSocketServer:
    """A server that was connected to; see transports.base.Connection. `why` says why the server ended the conversation."""

    encoding = "json"
    half_close = False

    def __init__(self, session: ClientSession, socket: ClientWebSocketResponse[bool], url: str) -> None:
        self.peer = Peer(url)
        self.why = ""
        self._session = session
        self._socket = socket

    @classmethod
    async def connect(
        cls, url: str, limit: int = MAX_MESSAGE, token: str = "", tls: ssl.SSLContext | None = None
    ) -> "WebSocketServer":
        """Connect to `ws://` or `wss://` `url`, showing `token` if there is one; `tls` judges the certificate, by default by
        who signed it. Raises: ConfigError."""
        if not url.startswith(("ws://", "wss://")):
            raise ConfigError(f"{url!r} is not the address of a WebSocket", _HINT)
        session = ClientSession()
        try:
            async with asyncio.timeout(CONNECT_S):
                socket: ClientWebSocketResponse[bool] = await session.ws_connect(
                    url,
                    headers={"Authorization": f"Bearer {token}"} if token else None,
                    protocols=[SUBPROTOCOL],
                    max_msg_size=limit,
                    decode_text=False,
                    timeout=ClientWSTimeout(ws_close=CLOSE_S),
                    ssl=tls or True,
                )
            if socket.protocol != SUBPROTOCOL:
                await socket.close()
                raise ConfigError(f"{url} is a WebSocket, but no MCP server (subprotocol {SUBPROTOCOL!r})", _HINT)
        except BaseException as error:
            await session.close()
            raise _explained(error, url) from error
        return cls(session, socket, url)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection; sets `why` at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                yield message.data
                continue
            if message.type is WSMsgType.CLOSE:
                self.why = f"the server closed the connection: {message.extra or 'no reason given'} ({message.data})"
            elif message.type is WSMsgType.ERROR:
                self.why = f"the connection broke: {message.data}"
            elif message.type is WSMsgType.BINARY:
                self.why = "the server sent a binary message, which is not MCP"
            return

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        try:
            await self._socket.send_frame(frame, WSMsgType.TEXT)
        except (ClientError, ConnectionError, RuntimeError) as error:  # RuntimeError: aiohttp's word for a closing socket
            raise ConnectionClosed("the WebSocket is closed") from error

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    async def close(self, reason: str = "") -> None:
        """See Connection."""
        await self._socket.close(message=reason.encode()[:123])
        await self._session.close()


def _explained(error: BaseException, url: str) -> BaseException:
    """What went wrong while connecting, for the user; what is no failure to connect stays as it is."""
    match error:
        case WSServerHandshakeError(status=401):
            return ConfigError(f"{url} wants another token", "Name the file that has it with --token-file")
        case WSServerHandshakeError():
            return ConfigError(f"{url} answers, but not as an MCP server: {error.status} {error.message}", _HINT)
        case InvalidURL():
            return ConfigError(f"{url!r} is not the address of a WebSocket", _HINT)
        case TimeoutError():
            return ConfigError(f"{url} does not answer within {CONNECT_S:.0f} s", "Check the address")
        case ClientConnectorError(os_error=cause):
            reason = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
            return ConfigError(f"{url} cannot be reached: {reason}", _START)
        case ClientError() | OSError():
            return ConfigError(f"{url} cannot be reached: {error}", _START)
        case _:
            return error
