"""A server as a child process: the contract of a connection, and how children begin and end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from edge_mcp.client.client import Client
from edge_mcp.client.stdio import END_S, StdioServer
from edge_mcp.errors import ConfigError, ConnectionClosed
from edge_mcp.transports.base import Connection
from tests.transports import contract
from tests.transports.contract import *  # noqa: F403 - the contract's tests

# A child that is a pipe to a socket, on which the test plays the server.
RELAY = """
import os, socket, sys, threading
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
def up():
    while data := os.read(0, 65536):
        sock.sendall(data)
    os._exit(0)
threading.Thread(target=up, daemon=True).start()
while data := sock.recv(65536):
    while data:
        data = data[os.write(1, data):]
"""


def python(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]


class RelayPeer(contract.OtherEnd):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, frame: bytes) -> None:
        self._writer.write(frame + b"\n")
        await self._writer.drain()

    async def receive(self) -> bytes | None:
        line = await self._reader.readline()
        return line.rstrip(b"\n") if line else None

    async def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[contract.Link]:
    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []
    listeners: list[asyncio.Server] = []

    async def connect(serve: Callable[[Connection], Awaitable[None]]) -> contract.OtherEnd:
        connected: asyncio.Future[contract.OtherEnd] = asyncio.get_running_loop().create_future()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            connected.set_result(RelayPeer(reader, writer))

        path = str(tmp_path / "relay")
        listeners.append(await asyncio.start_unix_server(accept, path, limit=4 * contract.LIMIT))
        server = await StdioServer.start(python(RELAY, path), lambda line: None, limit=contract.LIMIT)
        peer = await asyncio.wait_for(connected, 30)

        async def run() -> None:
            try:
                await serve(server)
            finally:
                await server.close()

        tasks.append(asyncio.create_task(run()))
        return peer

    yield contract.Link(connect)
    for task in tasks:
        task.cancel()
    await contract.settled(tasks)
    for writer in writers:
        writer.close()
    for listener in listeners:
        listener.close()
    await asyncio.sleep(0)


async def frames(server: StdioServer) -> list[bytes]:
    async with asyncio.timeout(30):
        return [frame async for frame in server if isinstance(frame, bytes)]


async def test_a_command_that_does_not_exist_is_an_error_of_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^/no/such/program cannot be started: No such file or directory$"):
        await StdioServer.start(["/no/such/program"], print)


async def test_a_server_that_does_not_start_is_explained_by_its_last_words() -> None:
    log: list[str] = []
    script = "import sys; sys.exit('edge-mcp: one thing\\nedge-mcp: another. Do this')"
    server = await StdioServer.start(python(script), log.append)
    with pytest.raises(ConnectionClosed) as caught:
        await Client(server).__aenter__()
    assert str(caught.value) == "the server did not start: another. Do this"
    assert log == ["edge-mcp: one thing"]


async def test_a_server_that_ends_says_how() -> None:
    server = await StdioServer.start(python("print('{}', flush=True); raise SystemExit(3)"), print)
    assert await frames(server) == [b"{}"]
    assert server.why == "the server ended with status 3"
    await server.close()


async def test_a_server_that_is_killed_says_by_what() -> None:
    server = await StdioServer.start(python("import os, signal; print('{}', flush=True); os.kill(os.getpid(), 9)"), print)
    await frames(server)
    assert server.why == "the server was killed (SIGKILL)"
    await server.close()


async def test_its_log_is_handed_on_once_it_is_up() -> None:
    log: list[str] = []
    script = "import sys; print('early', file=sys.stderr, flush=True); print('{}', flush=True); print('late', file=sys.stderr)"
    server = await StdioServer.start(python(script), log.append)
    await frames(server)
    await server.close()
    assert log == ["early", "late"]


async def test_close_ends_and_reaps_a_server_that_does_not_end_by_itself() -> None:
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); signal.pause()"
    server = await StdioServer.start(python(script), print)
    frame = await anext(aiter(server))
    assert frame == b"{}"
    pid = int(server.peer.address.split()[1])
    async with asyncio.timeout(END_S + 5):
        await server.close()
        await server.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


async def test_a_message_that_is_too_large_ends_the_conversation_and_says_so() -> None:
    server = await StdioServer.start(python("print('x' * 5000)"), print, limit=1000)
    assert await frames(server) == []
    assert server.why == "the server sent a message that is too large"
    await server.close()


async def test_a_call_to_a_server_that_died_says_so_and_not_that_a_pipe_is_broken() -> None:
    script = (
        "import sys, json; line = json.loads(sys.stdin.readline());"
        "print(json.dumps({'jsonrpc': '2.0', 'id': line['id'], 'result': {'supportedVersions': ['2026-07-28']}}), flush=True);"
        "raise SystemExit(7)"
    )
    server = await StdioServer.start(python(script), print)
    async with asyncio.timeout(30), Client(server) as client:
        with pytest.raises(ConnectionClosed, match="the server ended with status 7"):
            await client.call_tool("t", {"x": "y" * 500_000})
