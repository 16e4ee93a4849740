"""A server as a child process: start it, speak MCP with it in any way, read its memory and time from /proc."""

import base64
import json
import os
import re
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

TIMEOUT_S = 60.0
LEGACY, MODERN = "2025-11-25", "2026-07-28"
_CLIENT = {"name": "bench", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}


class BenchError(Exception):
    """A server did not do what the measurement needs."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in kB: in RAM, its share of what it shares, and what no file backs."""

    rss: int
    pss: int
    anonymous: int

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.rss + other.rss, self.pss + other.pss, self.anonymous + other.anonymous)


def memory(pid: int) -> Memory:
    """What `smaps_rollup` says of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    rss, pss, anonymous = (int(re.findall(rf"^{key}: +(\d+) kB", text, re.M)[0]) for key in ("Rss", "Pss", "Anonymous"))
    return Memory(rss, pss, anonymous)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`."""
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return children + [deeper for child in children for deeper in descendants(child)]


def cpu_ms(pid: int) -> float:
    """The time that all threads of a process have spent on a CPU."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks) / 1e6


def wakeups(pid: int) -> int:
    """How often threads of a process have stopped waiting: each wait is a voluntary switch to something else."""
    statuses = ((task / "status").read_text("ascii") for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[0]) for text in statuses)


def disk_bytes(pid: int) -> int:
    """What a process caused to be written to disks."""
    return int(re.findall(r"^write_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text("ascii"), re.M)[0])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Conversation:
    """A client's side of MCP in one era; `exchange` sends a message and yields the messages that follow a request."""

    def __init__(self, exchange: Callable[[bytes, bool], Iterator[bytes]], era: str) -> None:
        self._exchange = exchange
        self._era = era
        self._last_id = 0

    def open(self) -> None:
        """The handshake, which only the legacy era has."""
        if self._era == LEGACY:
            self.request("initialize", protocolVersion=LEGACY, capabilities={}, clientInfo=_CLIENT)
            self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request. Raises: BenchError."""
        if self._era == MODERN:
            params["_meta"] = META
        self._last_id += 1
        for line in self._send({"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}):
            answer = json.loads(line)
            if answer.get("id") == self._last_id:
                break
        result = answer.get("result")
        if not isinstance(result, dict) or result.get("isError"):
            raise BenchError(f"{method}: {line.decode()[:300]}")
        return result

    def _send(self, message: dict[str, Any]) -> Iterator[bytes]:
        return self._exchange(json.dumps(message).encode(), "id" in message)


class Child:
    """A running server; leaving the `with` block ends it."""

    def __init__(self, argv: Sequence[str], cwd: Path, **environment: str) -> None:
        self._name = Path(argv[0]).name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        pipe = subprocess.PIPE
        self.started = time.perf_counter()
        env = {**os.environ, **environment}
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=self._stderr, cwd=cwd, bufsize=0, env=env)
        self._stdin, self._stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self.pid = self._process.pid
        self._buffer = b""

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        self._stdout.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    @property
    def descriptors(self) -> tuple[int, int]:
        """Where its standard output is read and its standard input written, by whom has no `Conversation` under way."""
        return self._stdout.fileno(), self._stdin.fileno()

    def stdio(self, era: str) -> Conversation:
        """Speak over the child's standard input and output."""
        return Conversation(self._exchange_line, era)

    def websocket(self, era: str) -> Conversation:
        """Speak over the WebSocket that the child says it listens on."""
        return Conversation(WebSocket(self._port()).exchange, era)

    def listens(self, port: int) -> None:
        """Wait until it accepts connections. Raises: BenchError."""
        deadline = time.perf_counter() + TIMEOUT_S
        while time.perf_counter() < deadline and self._process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), TIMEOUT_S):
                return
            time.sleep(0.02)
        raise self._failure(f"does not listen on port {port}")

    def ask_line(self, line: str) -> bytes:
        """The line that answers this one, of a child that does not speak MCP. Raises: BenchError."""
        return next(self._exchange_line(line.encode(), True))

    def _exchange_line(self, message: bytes, expects_answer: bool) -> Iterator[bytes]:
        view = memoryview(message + b"\n")
        try:
            while view:
                view = view[self._stdin.write(view) or 0 :]
        except BrokenPipeError:
            raise self._failure("closed its input") from None
        return self._lines() if expects_answer else iter(())

    def _lines(self) -> Iterator[bytes]:
        fd = self._stdout.fileno()
        while True:
            while b"\n" not in self._buffer:
                if not select.select([fd], [], [], TIMEOUT_S)[0]:
                    raise self._failure(f"did not answer in {TIMEOUT_S:.0f} s")
                chunk = os.read(fd, 1 << 20)
                if not chunk:
                    raise self._failure("closed its output")
                self._buffer += chunk
            line, _, self._buffer = self._buffer.partition(b"\n")
            yield line

    def _port(self) -> int:
        """The port in the first loopback address that the child prints."""
        deadline = time.perf_counter() + TIMEOUT_S
        while time.perf_counter() < deadline and self._process.poll() is None:
            found = re.search(rb"(?:127\.0\.0\.1|localhost):([1-9]\d*)", self._printed())
            if found:
                return int(found[1])
            time.sleep(0.02)
        raise self._failure("did not say where it listens")

    def printed(self) -> str:
        """What it has said so far."""
        return self._printed().decode(errors="replace")

    def _printed(self) -> bytes:
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), min(size, 1 << 20), 0)

    def _failure(self, what: str) -> BenchError:
        return BenchError(f"{self._name} {what}: {self._printed().decode(errors='replace')[-600:]}")


class WebSocket:
    """Just enough of RFC 6455 for one client: a handshake and unfragmented messages, of text or (`mcp.msgpack`) binary."""

    def __init__(self, port: int, subprotocol: str = "mcp") -> None:
        self._first = b"\x81" if subprotocol == "mcp" else b"\x82"
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        )
        self._file = self.socket.makefile("rb")
        status = self._file.readline()
        if b" 101 " not in status:
            raise BenchError(f"the WebSocket was refused: {status.decode(errors='replace').strip()}")
        while self._file.readline().strip():
            pass

    def exchange(self, message: bytes, expects_answer: bool) -> Iterator[bytes]:
        """Send a text message; yield the text messages that follow."""
        self.socket.sendall(self.head(message) + message)
        return self._messages() if expects_answer else iter(())

    def head(self, message: bytes) -> bytes:
        """What goes before a message; its mask is zeros."""
        size = len(message)
        kind, wide = (size, 0) if size < 126 else (126, 2) if size < 65536 else (127, 8)
        return self._first + bytes([0x80 | kind]) + (size.to_bytes(wide, "big") if wide else b"") + bytes(4)

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self.socket.close()

    def _messages(self) -> Iterator[bytes]:
        while True:
            first, size = self._file.read(2)
            if size >= 126:
                size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
            payload = self._file.read(size)
            if first & 0x0F == 1:
                yield payload


class Http:
    """Just enough of HTTP/1.1 for one client of Streamable HTTP: POSTs on one connection, answered in JSON."""

    def __init__(self, port: int, era: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._file = self.socket.makefile("rb")
        self._port = port
        self._era = era
        self._session = ""

    def exchange(self, message: bytes, expects_answer: bool) -> Iterator[bytes]:
        """POST a message; yield the answer."""
        self.socket.sendall(self.head(message) + message)
        status, fields, body = self._response()
        if status != (200 if expects_answer else 202):
            raise BenchError(f"HTTP status {status}: {body[:300].decode(errors='replace')}")
        self._session = fields.get("mcp-session-id", self._session)
        return iter([body] if expects_answer else ())

    def head(self, message: bytes) -> bytes:
        """The header of the POST that carries a message."""
        request = json.loads(message)
        fields = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        if request["method"] != "initialize":
            fields["MCP-Protocol-Version"] = self._era
        if self._session:
            fields["Mcp-Session-Id"] = self._session
        if self._era == MODERN:
            fields["Mcp-Method"] = request["method"]
            if "name" in request["params"]:
                fields["Mcp-Name"] = request["params"]["name"]
        return self._lines("POST", fields | {"Content-Length": str(len(message))})

    def close(self) -> None:
        """End the session, if there is one, and the connection."""
        if self._session:
            self.socket.sendall(self._lines("DELETE", {"MCP-Protocol-Version": self._era, "Mcp-Session-Id": self._session}))
            self._response()
        self._file.close()
        self.socket.close()

    def _lines(self, method: str, fields: dict[str, str]) -> bytes:
        lines = [f"{method} /mcp HTTP/1.1", f"Host: 127.0.0.1:{self._port}", *(f"{name}: {fields[name]}" for name in fields)]
        return "\r\n".join([*lines, "", ""]).encode()

    def _response(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        fields: dict[str, str] = {}
        while line := self._file.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return status, fields, self._file.read(int(fields.get("content-length", "0")))
