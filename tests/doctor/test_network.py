"""What the doctor says of a network."""

import socket
from pathlib import Path

from edge_mcp.discovery.interfaces import Interface
from edge_mcp.doctor.network import Network, network
from edge_mcp.load.doctor import Finding
from tests.doctor.test_disk import put
from tests.load.test_doctor import device

UP = 0x1043
LO = Interface(1, "lo", 0x49, addresses=("127.0.0.1",))
ETH = Interface(2, "eth0", UP, addresses=("192.168.1.5",))
WLAN = Interface(3, "wlan0", UP, addresses=("192.168.1.6", "fd00::6"))
ROUTES = "Iface\tDestination\tGateway\tFlags\neth0\t0001A8C0\t00000000\t0001\n"
UDP = "  sl  local_address rem_address\n  1: 00000000:14E9 00000000:0000 07 0:0 00:0 0 0 0 4242 2 0 0\n"
IGMP = "Idx\tDevice : Count Querier\n1\tlo : 1 V3\n\t\t\t\t010000E0     1 0:0 0\n"
JOINED = "2\teth0      :     2      V3\n\t\t\t\tFB0000E0     1 0:0 0\n"


def told(root: Path, *found: Interface, shared: bool = True) -> dict[str, Finding]:
    return {finding.name: finding for finding in network(device(root), Network(found, shared))}


def test_no_network_is_no_problem_but_is_told(tmp_path: Path) -> None:
    assert told(tmp_path, LO)["network"].level == "note"
    (finding,) = network(device(tmp_path), Network(None))
    assert finding.level == "note"


def test_no_default_route_is_fine(tmp_path: Path) -> None:
    put(tmp_path, {"proc/net/route": ROUTES})
    findings = told(tmp_path, LO, ETH)
    assert findings["network"].found == "eth0 192.168.1.5"
    assert findings["route"].level == "ok"
    put(tmp_path, {"proc/net/route": ROUTES + "eth0\t00000000\t0101A8C0\t0003\n"})
    assert "route" not in told(tmp_path, LO, ETH)


def test_who_answers_for_names_and_where(tmp_path: Path) -> None:
    assert told(tmp_path, ETH)["mDNS"].found == "nobody listens on port 5353"
    put(tmp_path, {"proc/net/udp": UDP, "proc/net/igmp": IGMP + JOINED})
    assert told(tmp_path, ETH)["mDNS"].found == "answered by a program that only root can see on eth0"
    put(tmp_path, {"proc/77/comm": "avahi-daemon\n"})
    (tmp_path / "proc/77/fd").mkdir()
    (tmp_path / "proc/77/fd/9").symlink_to("socket:[4242]")
    assert told(tmp_path, ETH)["mDNS"].found == "answered by avahi-daemon on eth0"
    deaf = told(tmp_path, ETH, WLAN)["mDNS"]
    assert (deaf.level, deaf.found) == ("note", "answered by avahi-daemon, but not on wlan0")
    put(tmp_path, {"proc/net/igmp6": "3    wlan0           ff0200000000000000000000000000fb     1 00000004 0\n"})
    assert told(tmp_path, ETH, WLAN)["mDNS"].level == "ok"


def test_a_port_that_is_not_shared_names_who_has_it(tmp_path: Path) -> None:
    put(tmp_path, {"proc/net/udp": UDP, "proc/77/comm": "greedy\n"})
    (tmp_path / "proc/77/fd").mkdir()
    (tmp_path / "proc/77/fd/9").symlink_to("socket:[4242]")
    finding = told(tmp_path, ETH, shared=False)["mDNS"]
    assert finding.level == "problem"
    assert finding.found == "port 5353 is taken by greedy, which shares it with nobody"


def test_a_greedy_program_of_this_machine_is_noticed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as greedy:
        try:
            greedy.bind(("", 5353))
        except OSError:  # somebody else answers here, and shares
            assert Network.here().shared
        else:
            assert not Network.here().shared
    assert Network.here().interfaces
