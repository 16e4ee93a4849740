"""A gateway and five devices on hosts of their own: nothing is lost while they come and go, and each does what it can."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.lan.lab import Lab, calling, device, gateway, lab

DEVICES = 5
NAMES = [f"pi{number}" for number in range(1, DEVICES + 1)]
CALLERS = 32
PAUSE_S = 0.7
"""Between one trouble and the next."""


@pytest.fixture
def lan() -> Iterator[Lab]:
    with lab(DEVICES + 1) as made:
        yield made


class Devices:
    """Those on the first five hosts, by number from 1."""

    def __init__(self, lan: Lab, folder: Path) -> None:
        self._lan = lan
        self._folder = folder
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self._stacks = {number: ExitStack() for number in range(1, DEVICES + 1)}
        with ThreadPoolExecutor(DEVICES) as pool:
            list(pool.map(self.start, self._stacks))

    def start(self, number: int) -> None:
        name = f"pi{number}"
        entered = device(self._lan.hosts[number - 1], self._folder / name, name, machine_id=number)
        self.processes[number] = self._stacks[number].enter_context(entered)

    def kill(self, number: int) -> None:
        self._stacks[number].close()

    def tell(self, number: int, what: signal.Signals) -> None:
        self.processes[number].send_signal(what)

    def close(self) -> None:
        for stack in self._stacks.values():
            stack.close()


@pytest.fixture
def devices(lan: Lab, tmp_path: Path) -> Iterator[Devices]:
    made = Devices(lan, tmp_path)
    try:
        yield made
    finally:
        made.close()


def begun(caller: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
    """Once it calls."""
    assert caller.stdout is not None
    assert caller.stdout.readline() == '"calling"\n'
    return caller


def ended(caller: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = caller.communicate(timeout=120)
    told: dict[str, Any] = json.loads(out)
    return told


def test_no_call_is_lost_while_devices_are_killed_cut_off_slowed_and_brought_back(
    lan: Lab, devices: Devices, tmp_path: Path
) -> None:
    here = lan.hosts[DEVICES]
    over = threading.Event()

    steps: list[Callable[[], object]] = [
        lambda: devices.tell(1, signal.SIGUSR1),
        lambda: devices.kill(2),
        lambda: lan.cut(3),
        lambda: devices.start(2),
        lambda: lan.mend(3),
        lambda: devices.tell(1, signal.SIGUSR2),
    ]

    def trouble() -> None:
        for step in cycle(steps):
            step()
            if over.wait(PAUSE_S):
                return

    with gateway(here, tmp_path / "gateway"):
        caller = begun(calling(here, tmp_path / "caller", 2000, CALLERS))
        thread = threading.Thread(target=trouble)
        thread.start()
        try:
            told = ended(caller)
        finally:
            over.set()
            thread.join()
            caller.kill()
    assert (told["lost"], told["wrong"]) == (0, 0), told
    assert sum(told["by"].values()) == 2000
    assert set(told["by"]) == set(NAMES)


def test_a_device_that_is_four_times_slower_gets_about_a_quarter(lan: Lab, devices: Devices, tmp_path: Path) -> None:
    here = lan.hosts[DEVICES]
    devices.tell(1, signal.SIGUSR1)
    with gateway(here, tmp_path / "gateway"):
        caller = begun(calling(here, tmp_path / "caller", 1000, CALLERS))
        try:
            told = ended(caller)
        finally:
            caller.kill()
    assert (told["lost"], told["wrong"]) == (0, 0), told
    others = sum(told["by"][name] for name in NAMES[1:]) / (DEVICES - 1)
    assert 0.1 < told["by"].get("pi1", 0) / others < 0.45, told


def test_a_device_with_another_address_is_followed(tmp_path: Path) -> None:
    with lab(2) as lan:
        one, here = lan.hosts
        with device(one, tmp_path / "pi1", "pi1"), gateway(here, tmp_path / "gateway"):
            assert ended(begun(calling(here, tmp_path / "caller", 20, 2)))["by"] == {"pi1": 20}
            lan.readdress(1, "10.78.0.99")
            told = ended(begun(calling(here, tmp_path / "caller", 20, 2)))
            assert (told["by"], told["lost"]) == ({"pi1": 20}, 0), told
