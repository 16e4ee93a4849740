"""A server at the other end of a WebSocket: subprotocol `mcp`, or `mcp.msgpack` for who asks for it."""

import asyncio
import os
import socket as sockets
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from types import SimpleNamespace

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    InvalidURL,
    TraceConfig,
    TraceRequestRedirectParams,
    WSMsgType,
    WSServerHandshakeError,
)

from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.transports.base import MAX_MESSAGE, Frame, Peer

SUBPROTOCOLS = {"json": "mcp", "msgpack": "mcp.msgpack"}
"""By the names of protocol.codec."""
CONNECT_S = 10.0
CLOSE_S = 2.0
"""How long the other side has to say that it has closed, and to take what was sent before."""
_HINT = "An edge-mcp server is at ws://HOST:PORT/mcp"
_TCP_INFO = struct.Struct("=52xI64xQ")  # of the kernel's struct: tcpi_last_data_recv in ms, tcpi_bytes_acked
_START = "Check the address, or start a server there with edge-mcp serve"


class WebSocketServer:
    """A server that was connected to; see transports.base.Connection. `why` and `close_code` say why the server ended the
    conversation."""

    half_close = False

    def __init__(self, session: ClientSession, socket: ClientWebSocketResponse[bool], url: str, encoding: str) -> None:
        self.peer = Peer(url)
        self.encoding = encoding
        self.why = ""
        self._type = WSMsgType.TEXT if encoding == "json" else WSMsgType.BINARY
        self._session = session
        self._socket = socket
        self._writing: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        url: str,
        limit: int = MAX_MESSAGE,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        encodings: Sequence[str] = ("json",),
    ) -> "WebSocketServer":
        """Connect to `ws://` or `wss://` `url`, showing `token` if there is one; `tls` judges the certificate, by default by
        who signed it. Of `encodings` (names of protocol.codec, best first) the server chooses. Raises: ConfigError."""
        if not url.startswith(("ws://", "wss://")):
            raise ConfigError(f"{url!r} is not the address of a WebSocket", _HINT)
        session = ClientSession(trace_configs=[_staying()])
        try:
            async with asyncio.timeout(CONNECT_S):
                socket: ClientWebSocketResponse[bool] = await session.ws_connect(
                    url,
                    headers={"Authorization": f"Bearer {token}"} if token else None,
                    protocols=[SUBPROTOCOLS[encoding] for encoding in encodings],
                    max_msg_size=limit,
                    decode_text=False,
                    timeout=ClientWSTimeout(ws_close=CLOSE_S),
                    ssl=tls or True,
                )
            encoding = next((name for name in encodings if SUBPROTOCOLS[name] == socket.protocol), "")
            if not encoding:
                await socket.close()
                raise ConfigError(f"{url} is a WebSocket, but no MCP server (subprotocol {SUBPROTOCOLS['json']!r})", _HINT)
        except BaseException as error:
            await session.close()
            raise _explained(error, url) from error
        return cls(session, socket, url, encoding)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """See Connection; sets `why` at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is self._type:
                yield message.data
                continue
            if self.why:
                return
            if message.type is WSMsgType.CLOSE:
                self.why = f"the server closed the connection: {message.extra or 'no reason given'} ({message.data})"
            elif message.type is WSMsgType.ERROR:
                self.why = f"the connection broke: {message.data}"
            elif message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                kind = "binary" if message.type is WSMsgType.BINARY else "text"
                self.why = f"the server sent a {kind} message, which the subprotocol {self._socket.protocol} has not"
            return

    async def send(self, frame: bytes, about: int | str | None = None, last: bool = False) -> None:
        """See Connection."""
        # All that wait until aiohttp has room wait for one future, and to cancel one of them would cancel all. So what was
        # begun is written to its end, whoever waits for it; that the next waits for this bounds what is held.
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])
        self._writing = writing = asyncio.create_task(self._socket.send_frame(frame, self._type))
        writing.add_done_callback(_noticed)
        await asyncio.wait([writing])
        if writing.cancelled():
            raise ConnectionClosed("the WebSocket is closed")
        try:
            writing.result()
        except (ClientError, ConnectionError, RuntimeError) as error:  # RuntimeError: aiohttp's word for a closing socket
            raise ConnectionClosed("the WebSocket is closed") from error

    async def hang_up(self, about: int | str, retry_ms: int) -> None:
        """See Connection: requests have no stream of their own here."""

    @property
    def close_code(self) -> int | None:
        """With what the server closed it (RFC 6455, 7.4)."""
        return self._socket.close_code

    def heard(self) -> tuple[float, int] | None:
        """For how many seconds no byte came that was read, and how many of ours arrived, as the kernel knows, whatever this
        process did meanwhile; None where it does not tell (not Linux), or the connection has ended."""
        socket = self._socket.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            silent_ms, arrived = _TCP_INFO.unpack(socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, _TCP_INFO.size))
            # No more can come while what came waits to be read, for who takes it is slow; nor can the answer to a ping.
            from fcntl import ioctl  # is not everywhere, nor is TCP_INFO
            from termios import FIONREAD

            waits = ioctl(socket.fileno(), FIONREAD, bytes(4)) != bytes(4)
            return 0.0 if waits else silent_ms / 1000, arrived
        return None

    async def ping(self, payload: bytes) -> None:
        """Ask the server for a sign of life."""
        with suppress(ClientError, ConnectionError, RuntimeError):  # it has just ended, which its reader sees
            await self._socket.ping(payload)

    def abandon(self, why: str) -> None:
        """End it without the server, which says nothing any more; its reader then ends with this reason."""
        self.why = self.why or why
        with suppress(OSError, AttributeError):  # it has just ended
            self._socket.get_extra_info("socket").shutdown(sockets.SHUT_RDWR)

    async def close(self, reason: str = "") -> None:
        """See Connection. One that goes on sending, or does not read, is not waited for."""
        raw = self._socket.get_extra_info("socket")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._socket.close(message=reason.encode()[:123])
                    raw = None
        finally:
            if raw is not None:
                with suppress(OSError):
                    raw.shutdown(sockets.SHUT_RDWR)
            if self._writing is not None:
                self._writing.cancel()
            await self._session.close()


def _noticed(writing: "asyncio.Task[None]") -> None:
    """Its outcome is of interest only to who still waits for it."""
    if not writing.cancelled():
        writing.exception()


def _staying() -> TraceConfig:
    """Follows nobody to another address: the one that was named is meant, and no other is to be asked for anything."""

    async def refuse(session: ClientSession, context: SimpleNamespace, params: TraceRequestRedirectParams) -> None:
        raise WSServerHandshakeError(
            params.response.request_info, (), status=params.response.status, message="it names another address"
        )

    tracing = TraceConfig()
    tracing.on_request_redirect.append(refuse)
    return tracing


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
