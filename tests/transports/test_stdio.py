"""MCP over standard input and output."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.transports.base import EDGE, Connection, Oversized, Peer
from edge_mcp.transports.stdio import Lines, StdioConnection
from tests.transports import contract
from tests.transports.contract import *  # noqa: F403 - the contract's tests


class PipePeer(contract.OtherEnd):
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
async def link() -> AsyncIterator[contract.Link]:
    """Two pipes; the connection's ends are closed when its coroutine returns, as at the end of a process."""
    tasks: list[asyncio.Task[None]] = []
    transports: list[asyncio.BaseTransport] = []

    async def connect(serve: Callable[[Connection], Awaitable[None]]) -> contract.OtherEnd:
        loop = asyncio.get_running_loop()
        (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()

        async def run() -> None:
            try:
                await serve(StdioConnection(in_read, out_write, Peer("test"), contract.LIMIT))
            finally:
                os.close(in_read)
                os.close(out_write)

        tasks.append(asyncio.create_task(run()))
        reader = asyncio.StreamReader(limit=4 * contract.LIMIT)
        source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(out_read, "rb"))
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(), os.fdopen(in_write, "wb")
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        transports.extend((source, transport))
        return PipePeer(reader, writer)

    yield contract.Link(connect)
    for transport in transports:
        transport.close()
    for task in tasks:
        task.cancel()
    await contract.settled(tasks)
    await asyncio.sleep(0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(1, 40))
def test_lines_are_the_same_however_the_bytes_are_cut(lines: list[bytes], size: int) -> None:
    stream = b"\n".join(lines)
    expected = [line.strip() for line in stream.split(b"\n") if line.strip()]
    buffer = Lines(1000)
    got = [frame for at in range(0, len(stream), size) for frame in buffer.feed(stream[at : at + size])]
    assert got + buffer.finish() == expected


@pytest.mark.parametrize("size", [1, 1000, 5000, 10**6])
def test_a_line_beyond_the_limit_is_measured_but_not_kept(size: int) -> None:
    line = b"<" + b"x" * 300_000 + b">"
    stream = b"first\n" + line + b"\nlast\n"
    buffer = Lines(100_000)
    got = [frame for at in range(0, len(stream), size) for frame in buffer.feed(stream[at : at + size])]
    assert got == [b"first", Oversized(line[:EDGE], line[-EDGE:], len(line), 100_000), b"last"]


def run_python(code: str, stdin: bytes = b"", **options: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, timeout=30, check=True)


def test_a_stray_print_here_or_in_a_child_cannot_tear_a_frame() -> None:
    code = """
import asyncio, os, subprocess, sys
from edge_mcp.transports.stdio import StdioListener
async def serve(connection):
    async for frame in connection:
        print("stray print", flush=True)
        os.write(1, b"stray write\\n")
        subprocess.run(["echo", "stray child"])
        assert sys.stdin.read() == ""
        await connection.send(frame)
asyncio.run(StdioListener(()).listen(serve))
"""
    done = run_python(code, b'{"a":1}\n{"b":2}')
    assert done.stdout == b'{"a":1}\n{"b":2}\n'
    assert done.stderr.count(b"stray") == 6


def test_files_and_null_devices_serve_as_standard_input_and_output(tmp_path: Path) -> None:
    code = """
import asyncio
from edge_mcp.transports.stdio import StdioListener
async def serve(connection):
    async for frame in connection:
        await connection.send(frame)
asyncio.run(StdioListener(()).listen(serve))
"""
    requests, answers = tmp_path / "in", tmp_path / "out"
    requests.write_bytes(b'{"a":1}\n' * 100_000)
    with requests.open("rb") as stdin, answers.open("wb") as stdout:
        subprocess.run([sys.executable, "-c", code], stdin=stdin, stdout=stdout, timeout=30, check=True)
    assert answers.read_bytes() == requests.read_bytes()
    subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30, check=True)
