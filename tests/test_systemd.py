"""What is said to the service manager, on a real notification socket; the sockets that it passes on."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_mcp.errors import EngineError
from edge_mcp.systemd import FIRST_FD, MAX_STATUS, Manager, watchdog
from tests.processes import ROOT, SERVE


@pytest.fixture(params=["path", "abstract"])
def hearing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What a service manager listens on, and what it says of that."""
    shown = str(tmp_path / "notify") if request.param == "path" else f"@edge-mcp-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + shown[1:] if shown.startswith("@") else shown)
        listening.settimeout(60)
        yield listening, shown


def test_what_is_said_arrives_in_its_form(hearing: tuple[socket.socket, str]) -> None:
    listening, shown = hearing
    environment = {"NOTIFY_SOCKET": shown, "KEPT": "1"}
    now = 12.5
    manager = Manager(environment, clock=lambda: now)
    assert manager.listens
    assert environment == {"KEPT": "1"}
    manager.ready("5 tools,\n nominal")
    manager.status("5 tools, nominal")  # the same: not said again
    manager.status("")
    manager.status("5 tools, hot")
    now += 59
    manager.status("5 tools, warm")  # too soon
    now += 1
    manager.status("5 tools, nominal")
    manager.reloading()
    manager.ready()
    manager.alive()
    manager.stopping()
    said = [listening.recv(4096).decode() for _ in range(7)]
    assert said == [
        "READY=1\nSTATUS=5 tools, nominal",
        "STATUS=5 tools, hot",
        "STATUS=5 tools, nominal",
        "RELOADING=1\nMONOTONIC_USEC=72500000",
        "READY=1",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    manager.ready("x" * 5000)
    assert len(listening.recv(8192)) == len("READY=1\nSTATUS=") + MAX_STATUS


def test_nothing_is_said_where_nobody_listens() -> None:
    manager = Manager({})
    assert not manager.listens
    manager.ready("up")
    manager.alive()
    assert manager.watchdog_s == 0
    assert manager.sockets() == []


def test_a_manager_that_is_gone_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with caplog.at_level(logging.WARNING):
        manager.ready()
        manager.alive()
    assert [record.message for record in caplog.records] == ["systemd cannot be told READY=1: No such file or directory"]


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "-5"}, 0),
        ({"WATCHDOG_USEC": "²"}, 0),
        ({"WATCHDOG_USEC": "9" * 5000}, 0),
        ({}, 0),
    ],
)
def test_the_watchdogs_time(variables: dict[str, str], seconds: float) -> None:
    assert Manager(variables).watchdog_s == seconds
    assert not variables


_INHERITOR = f"""
import os, sys
from edge_mcp.systemd import Manager
os.environ["LISTEN_PID"] = str(os.getpid())
manager = Manager()
assert not [name for name in os.environ if name.startswith("LISTEN_")]
found = manager.sockets()
print([(one.getsockname()[1], one.get_inheritable(), one.getblocking()) for one in found])
assert manager.sockets() == []
for one in found:
    one.close()
try:
    os.fstat({FIRST_FD} + 1)
except OSError:
    print("the other one is closed")
"""


def test_sockets_that_were_opened_beforehand_are_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        taken = FIRST_FD, FIRST_FD + 1

        def pass_on() -> None:
            copies = [os.dup2(one.fileno(), 100 + number) for number, one in enumerate((listening, other))]
            for copy, target in zip(copies, taken, strict=True):
                os.dup2(copy, target, inheritable=True)

        ended = subprocess.run(
            [sys.executable, "-c", _INHERITOR],
            env={**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"},  # the third one is not there
            preexec_fn=pass_on,
            pass_fds=taken,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines() == [f"[({listening.getsockname()[1]}, False, False)]", "the other one is closed"]
        assert "does not listen for connections" in ended.stderr
        assert "is no socket" in ended.stderr


def test_sockets_for_another_process_are_left_alone() -> None:
    assert Manager({"LISTEN_FDS": "1", "LISTEN_PID": "1"}).sockets() == []


@contextmanager
def _served(*words: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [*SERVE, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_service_says_when_it_is_up_reloads_and_stops(hearing: tuple[socket.socket, str]) -> None:
    listening, shown = hearing
    with _served("--listen=127.0.0.1:0", NOTIFY_SOCKET=shown) as process:
        ready = listening.recv(4096).decode()
        assert ready.startswith("READY=1\nSTATUS=edge-mcp ")
        assert "8 models" in ready
        process.send_signal(signal.SIGHUP)
        assert listening.recv(4096).decode().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert listening.recv(4096).decode().startswith("READY=1\nSTATUS=9 tools, state ")
        process.send_signal(signal.SIGTERM)
        assert listening.recv(4096) == b"STOPPING=1"
        assert process.wait(60) == 0


def test_a_socket_that_listens_already_is_served_and_stays_open_without_the_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def pass_on() -> None:
            os.dup2(listening.fileno(), FIRST_FD, inheritable=True)

        for _ in range(2):  # what connects while nobody serves is served by the next one
            connecting = socket.create_connection(("127.0.0.1", port), 60)
            connecting.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            starter = [sys.executable, "-c", _STARTER, *SERVE]
            with subprocess.Popen(
                starter, cwd=ROOT, env={**os.environ, "LISTEN_FDS": "1"}, preexec_fn=pass_on, pass_fds=(FIRST_FD,)
            ) as process:
                assert connecting.recv(12) == b"HTTP/1.1 200"
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
                    assert answer.status == 200
                process.terminate()
                assert process.wait(60) == 0
            connecting.close()


def test_the_watchdog_is_fed_only_while_all_is_well(
    hearing: tuple[socket.socket, str], caplog: pytest.LogCaptureFixture
) -> None:
    listening, shown = hearing
    manager = Manager({"NOTIFY_SOCKET": shown, "WATCHDOG_USEC": "90000"})
    waited: list[float] = []
    turns: list[Exception | float | None] = [None, EngineError("it does not run"), 60.0, None]

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) > 4:
            raise asyncio.CancelledError

    async def check() -> None:
        turn = turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        await asyncio.sleep(turn or 0)  # far beyond the time that it has

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watchdog(manager, check, wait))
    assert waited == [0.03] * 5
    assert [listening.recv(64), listening.recv(64)] == [b"WATCHDOG=1"] * 2
    told = ["the watchdog is not fed: it does not run", "the watchdog is not fed: no answer within 0.03 s"]
    assert [record.message for record in caplog.records] == told
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(64)


_STARTER = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
