"""Other programs see a device in the network: Avahi's tools, on another host."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.discovery.segment import Segment, address, segment
from tests.discovery.test_advertise import PORT, served, until
from tests.transports.networks import ROOT

# A daemon of the host's own, with a /run of its own. It is asked for one service after the other.
_BROWSE = """
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/avahi-daemon
dbus-daemon --system --fork --nopidfile --print-pid >/run/dbus.pid
avahi-daemon --daemonize --no-drop-root --no-chroot --no-rlimits --file="$1"
shift
for _ in $(seq 100); do avahi-daemon --check && break; sleep 0.1; done
for service; do echo "? $service"; timeout 20 avahi-browse --resolve --parsable --terminate "$service"; done
avahi-daemon --kill
kill "$(cat /run/dbus.pid)"
"""
_SETTINGS = "[server]\nallow-interfaces=eth\nenable-dbus=yes\n[publish]\ndisable-publishing=yes\n"


@pytest.fixture
def lan() -> Iterator[Segment]:
    with segment(2) as made:
        yield made


def test_avahi_shows_and_resolves_it_under_both_names_and_by_what_it_takes(lan: Segment, tmp_path: Path) -> None:
    assert shutil.which("avahi-browse"), "this test needs: apt-get install avahi-daemon avahi-utils dbus"
    assert os.geteuid() == 0, "this test starts a system's daemon on a host, for which it has to be root"
    device, host = lan.hosts
    (tmp_path / "avahi.conf").write_text(_SETTINGS)
    shutil.copytree(ROOT / "models/face-detector", tmp_path / "none/face-detector")
    services = ("_edge-mcp._tcp", "_mcp._tcp", "_image._sub._edge-mcp._tcp", "_audio._sub._edge-mcp._tcp")
    with served(device, "--name", "kitchen", home=tmp_path):
        until(host, bool)  # Avahi's tool ends with what it hears at once
        words = ["nsenter", "--target", str(host.pid), "--net", "--", "unshare", "--mount", "--propagation=private"]
        ended = subprocess.run(
            [*words, "sh", "-c", _BROWSE, "sh", str(tmp_path / "avahi.conf"), *services],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    told = {part.splitlines()[0]: part for part in ended.stdout.split("? ")[1:]}
    assert set(told) == set(services), ended.stderr
    resolved = {name: [line.split(";") for line in part.splitlines() if line.startswith("=")] for name, part in told.items()}
    assert not resolved.pop("_audio._sub._edge-mcp._tcp")
    for name, lines in resolved.items():
        for _, _, _, instance, _, _, server, where, port, txt in lines:
            assert instance.startswith("kitchen-") and server.startswith("edge-mcp-")
            assert (where == address(1) or where.startswith("fe80:")) and port == str(PORT)
            assert '"path=/mcp"' in txt
        assert lines, name
    assert '"transport=http"' in told["_mcp._tcp"]
    assert '"txtvers=1"' in told["_edge-mcp._tcp"]
