"""Hosts with a cable between them that can be cut, and a router that forgets: network namespaces of the test's own."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER, CLIENT = "10.77.1.2", "10.77.2.2"
ROOT = Path(__file__).parents[2]
_PATIENCE_S = 30.0


class Host:
    """A namespace, which lives as long as the process that was started in it. `pid` is that process's."""

    def __init__(self, enter: Sequence[str], unshare: Sequence[str]) -> None:
        self.holder = subprocess.Popen([*enter, "unshare", *unshare, "--", "sleep", "infinity"])
        self.pid = self.holder.pid
        self.enter = ("nsenter", "--target", str(self.pid), "--user", "--net", "--preserve-credentials", "--")
        deadline = time.monotonic() + _PATIENCE_S
        while Path(f"/proc/{self.pid}/comm").read_text() != "sleep\n":
            assert self.holder.poll() is None, "no network namespace can be made here"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def run(self, *command: str) -> None:
        subprocess.run([*self.enter, *command], check=True, timeout=_PATIENCE_S)

    def start(self, *command: str, **how: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen([*self.enter, *command], text=True, cwd=ROOT, **how)

    def forwarded(self) -> int:
        """IP packets that went through this host so far."""
        names, values = (
            line.split() for line in Path(f"/proc/{self.pid}/net/snmp").read_text().splitlines() if line.startswith("Ip:")
        )
        return int(values[names.index("ForwDatagrams")])

    def connections(self) -> int:
        """TCP connections that are open on this host."""
        lines = Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
        return sum(line.split()[3] == "01" for line in lines)  # TCP_ESTABLISHED

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()


class Network:
    """A server at `SERVER` and a client at `CLIENT`, on two links with a router between."""

    def __init__(self) -> None:
        self.server = Host((), ("--map-root-user", "--net"))
        self.router = Host(self.server.enter, ("--net",))
        self.client = Host(self.server.enter, ("--net",))
        for number, (host, address) in enumerate(((self.server, SERVER), (self.client, CLIENT)), 1):
            self.router.run("ip", "link", "add", f"r{number}", "type", "veth", "peer", "name", "eth", "netns", str(host.pid))
            self.router.run("ip", "address", "add", f"10.77.{number}.1/24", "dev", f"r{number}")
            self.router.run("ip", "link", "set", f"r{number}", "up")
            host.run("ip", "address", "add", f"{address}/24", "dev", "eth")
            for device in ("lo", "eth"):
                host.run("ip", "link", "set", device, "up")
            host.run("ip", "route", "add", "default", "via", f"10.77.{number}.1")
        self.router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def cut(self) -> None:
        """The client's cable is pulled."""
        self.client.run("ip", "link", "set", "eth", "down")

    def forget(self) -> None:
        """The router lets nothing more through, and says so to nobody."""
        for address in (SERVER, CLIENT):
            self.router.run("ip", "route", "add", "blackhole", f"{address}/32")

    @contextmanager
    def forgetting(self, idle_s: float) -> Iterator[threading.Event]:
        """From the first packet on the router forgets what is silent for `idle_s`, as one that translates addresses does."""
        forgotten, ended = threading.Event(), threading.Event()

        def watch() -> None:
            seen, since = self.router.forwarded(), time.monotonic()
            while not ended.wait(min(0.02, idle_s / 10)):
                now, count = time.monotonic(), self.router.forwarded()
                if count != seen:
                    seen, since = count, now
                elif seen and now - since >= idle_s:
                    self.forget()
                    forgotten.set()
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield forgotten
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        for host in (self.client, self.router, self.server):
            host.close()


@contextmanager
def network() -> Iterator[Network]:
    """A network for the length of a `with`."""
    made = Network()
    try:
        yield made
    finally:
        made.close()
