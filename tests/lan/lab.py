"""A network of hosts for tests: a `Segment` whose cables can be cut, with devices and callers as processes of their own.

    with lab(6) as lan:
        with device(lan.hosts[0], home, "kitchen"): ...
        lan.cut(1); lan.mend(1); lan.readdress(1, "10.78.0.99")

Hosts are counted from 1, and host N is at `address(N)`. Everything is gone when the `with` ends: namespaces end with their
processes. Names of interfaces are in the namespaces only: any number of tests may run at once.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.discovery.segment import PATIENCE_S, Segment, address
from tests.transports.networks import ROOT, Host

DEVICE = Path(__file__).with_name("device.py")
CALLER = Path(__file__).with_name("caller.py")
PORT, GATEWAY_PORT = 8765, 8766
# What the system says of the device is its own, as on a card of its own.
_OWN = """
printf '%032x\\n' "$1" >"$3/machine-id"
mount --bind "$3/machine-id" /etc/machine-id
hostname "$2"
shift 3
exec "$@"
"""


class Lab(Segment):
    """What can happen to a host's cable and address."""

    def cut(self, number: int) -> None:
        """Pull the host's cable: the carrier is lost on both ends."""
        self.bridge.run("ip", "link", "set", f"p{number}", "down")

    def mend(self, number: int) -> None:
        """Plug it in again."""
        self.bridge.run("ip", "link", "set", f"p{number}", "up")

    def readdress(self, number: int, to: str) -> None:
        """Give the host another address, as a router does."""
        host = self.hosts[number - 1]
        host.run("ip", "-4", "address", "flush", "dev", "eth")
        host.run("ip", "address", "add", f"{to}/24", "dev", "eth")
        host.run("ip", "route", "replace", "default", "dev", "eth")


@contextmanager
def lab(count: int) -> Iterator[Lab]:
    """Hosts for the length of a `with`."""
    made = Lab(count)
    try:
        yield made
    finally:
        made.close()


def started(host: Host, home: Path, name: str, *program: str, machine_id: int = 0, **how: Any) -> "subprocess.Popen[str]":
    """Python's `program` on a host, with a host name, a machine-id and a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    own = ("unshare", "--mount", "--uts", "--", "sh", "-ec", _OWN, "sh", str(machine_id), name, str(home))
    environment = ("env", f"XDG_DATA_HOME={home}", f"PYTHONPATH={ROOT}", sys.executable)
    return host.start(*own, *environment, *program, **how)


@contextmanager
def listens(process: "subprocess.Popen[str]", log: Path) -> Iterator["subprocess.Popen[str]"]:
    """Once it does, by what it says on standard error, which is `log`; killed in the end if it still runs."""
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "listening on" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.005)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()


@contextmanager
def running(host: Host, home: Path, name: str, *program: str, machine_id: int = 0) -> Iterator["subprocess.Popen[str]"]:
    """A program that listens; `HOME/log` is what it says."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log"
    with (
        log.open("w") as file,
        listens(started(host, home, name, *program, machine_id=machine_id, stderr=file), log) as process,
    ):
        yield process


@contextmanager
def device(host: Host, home: Path, name: str, machine_id: int = 0) -> Iterator["subprocess.Popen[str]"]:
    """device.py, which is advertised, on any address."""
    with running(host, home, name, str(DEVICE), f"*:{PORT}", machine_id=machine_id) as process:
        yield process


@contextmanager
def gateway(host: Host, home: Path) -> Iterator["subprocess.Popen[str]"]:
    """`edge-mcp gateway` before all devices that are found."""
    words = ("-m", "edge_mcp", "gateway", "--unknown", "--listen", f"127.0.0.1:{GATEWAY_PORT}")
    with running(host, home, "gateway", *words) as process:
        yield process


def calling(host: Host, home: Path, calls: int, callers: int, *urls: str) -> "subprocess.Popen[str]":
    """caller.py on a host: the official client. It says in one line of JSON what became of the calls."""
    words = (str(CALLER), str(calls), str(callers), *(urls or (f"http://127.0.0.1:{GATEWAY_PORT}/mcp",)))
    return started(host, home, "caller", *words, stdout=subprocess.PIPE)


def url(number: int) -> str:
    """Of the device on this host."""
    return f"http://{address(number)}:{PORT}/mcp"
