"""Real sockets whose other end is gone: killed, frozen, cut off, forgotten by a router; with short intervals."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.transports.networks import SERVER, Network, network

FIGURES = {
    "base_s": 0.5,
    "least_s": 0.1,
    "near_s": 2.0,
    "far_s": 0.5,
    "patience_s": 0.4,
    "most_patience_s": 0.8,
    "tick_s": 0.05,
}
ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
SLACK_S = 5.0
"""What a busy machine may take to run a process that is due. (test_wheel.py measures exactly.)"""

Start = Callable[..., "subprocess.Popen[str]"]


class Told:
    """What a program of kept.py tells."""

    def __init__(self, file: Path, start: Start, *arguments: str) -> None:
        self._file = file
        with file.open("w") as stdout:
            self.process = start(sys.executable, "-m", "tests.transports.kept", *arguments, stdout=stdout)
        self.pid = self.process.pid
        self.told: list[dict[str, Any]] = []

    def all(self, event: str) -> list[dict[str, Any]]:
        """What it told of this kind until now."""
        lines = self._file.read_text().split("\n")[:-1]
        self.told = [json.loads(line) for line in lines]
        return [told for told in self.told if told["event"] == event]

    def wait(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self.all(event)) < count:
            assert time.monotonic() < deadline, (event, self.told)
            assert self.process.poll() is None, self.told
            time.sleep(0.01)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def here(*command: str, **how: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, text=True, cwd=ROOT, **how)


def told(stack: ExitStack, start: Start, *arguments: str) -> Told:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    made = Told(Path(folder) / "told", start, *arguments)
    stack.callback(made.close)
    return made


def served(stack: ExitStack, start: Start = here, host: str = "127.0.0.1", **figures: float) -> tuple[Told, str]:
    server = told(stack, start, "serve", host, json.dumps(FIGURES | figures))
    return server, server.wait("listening")[0]["url"]


def check_bound(gone: list[dict[str, Any]], since: float) -> None:
    for one in gone:
        assert one["at"] - since <= one["bound"] + SLACK_S


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_hangs_is_found_in_time_and_others_stay(stack: ExitStack, end: signal.Signals) -> None:
    server, url = served(stack)
    staying, ending = told(stack, here, "peers", url, "5"), told(stack, here, "peers", url, "5")
    server.wait("came", 10)
    since = time.monotonic()
    os.kill(ending.pid, end)
    check_bound(server.wait("gone", 5), since)
    assert not staying.all("closed")
    assert len(server.all("gone")) == 5


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def test_a_cut_cable_is_found_in_time(stack: ExitStack, net: Network) -> None:
    server, url = served(stack, net.server.start, SERVER)
    told(stack, net.client.start, "peers", url, "3").wait("connected", 3)
    server.wait("came", 3)
    net.cut()
    check_bound(server.wait("gone", 3), time.monotonic())


def test_a_router_that_forgets_is_kept_from_it(stack: ExitStack, net: Network) -> None:
    server, url = served(stack, net.server.start, SERVER, near_s=60, base_s=60)
    peers = told(stack, net.client.start, "peers", url, "2")
    assert [one["interval"] for one in server.wait("came", 2)] == [0.5, 0.5]  # a router is between
    with net.forgetting(idle_s=4.0) as forgotten:
        deadline, before = time.monotonic() + PATIENCE_S, net.router.forwarded()
        while net.router.forwarded() - before < 30:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not forgotten.is_set()
    assert not server.all("gone")
    assert not peers.all("closed")


def test_a_router_that_forgets_sooner_is_found_in_time(stack: ExitStack, net: Network) -> None:
    server, url = served(stack, net.server.start, SERVER, far_s=2)
    told(stack, net.client.start, "peers", url, "2").wait("connected", 2)
    with net.forgetting(idle_s=0.3) as forgotten:
        assert forgotten.wait(PATIENCE_S)
        check_bound(server.wait("gone", 2), time.monotonic())


def test_the_kernel_finds_a_cut_cable_while_the_server_sleeps(stack: ExitStack, net: Network) -> None:
    server, url = served(stack, net.server.start, SERVER)
    told(stack, net.client.start, "peers", url, "3").wait("connected", 3)
    server.wait("came", 3)
    assert net.server.connections() == 3
    os.kill(server.pid, signal.SIGSTOP)
    net.cut()
    deadline = time.monotonic() + PATIENCE_S
    while net.server.connections():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(server.pid, signal.SIGCONT)
    server.wait("gone", 3)
