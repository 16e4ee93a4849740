"""Hosts on one bridge, in network namespaces of the test's own, and what says something there."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.transports.networks import ROOT, Host

SPEAKER = Path(__file__).with_name("speaker.py")
PATIENCE_S = 60.0


class Segment:
    """`hosts`, at 10.78.0.1, 10.78.0.2 …, each with a default route so that it may send to groups."""

    def __init__(self, count: int) -> None:
        self.bridge = Host((), ("--map-root-user", "--net"))
        self.hosts: list[Host] = []
        self.bridge.run("ip", "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
        self.bridge.run("ip", "link", "set", "lan", "up")
        for number in range(1, count + 1):
            host = Host(self.bridge.enter, ("--net",))
            self.hosts.append(host)
            pair = ("ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth", "netns", str(host.pid))
            self.bridge.run(*pair)
            self.bridge.run("ip", "link", "set", f"p{number}", "master", "lan", "up")
            host.run("ip", "address", "add", f"{address(number)}/24", "dev", "eth")
            for device in ("lo", "eth"):
                host.run("ip", "link", "set", device, "up")
            host.run("ip", "route", "add", "default", "dev", "eth")

    def close(self) -> None:
        for host in (*self.hosts, self.bridge):
            host.close()


def address(number: int) -> str:
    """Of the host, counted from 1."""
    return f"10.78.0.{number}"


@contextmanager
def segment(count: int) -> Iterator[Segment]:
    """Hosts for the length of a `with`."""
    made = Segment(count)
    try:
        yield made
    finally:
        made.close()


class Speaker:
    """A process on a host that advertises `services` (see speaker.py), until it says goodbye or is killed."""

    def __init__(self, host: Host, *services: dict[str, Any]) -> None:
        words = (sys.executable, str(SPEAKER), json.dumps(services))
        self.process = host.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        self.said()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def said(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the speaker has ended"
        return line.strip()

    def goodbye(self) -> None:
        """Take back what was said, and end."""
        self.process.communicate("\n", timeout=PATIENCE_S)


def edge_mcp_in(host: Host, *words: str, home: Path | None = None, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    """The command on a host, with a home of its own."""
    home = home or Path(tempfile.mkdtemp())
    return host.start(
        "env",
        f"XDG_DATA_HOME={home}",
        f"PYTHONPATH={ROOT}",
        "PYTHONSAFEPATH=1",
        sys.executable,
        "-m",
        "edge_mcp",
        *words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ran(host: Host, *words: str, home: Path | None = None) -> tuple[int, str, str]:
    """Status and output of the command on a host."""
    process = edge_mcp_in(host, *words, home=home)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def discovered(host: Host, *words: str, home: Path | None = None) -> dict[str, dict[str, Any]]:
    """What `edge-mcp discover` finds there, by name."""
    status, out, err = ran(host, "discover", "--json", *words, home=home)
    assert status == 0, err
    return {device["name"]: device for device in json.loads(out)}
