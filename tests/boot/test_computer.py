"""A 512 MB computer with edge-mcp on it: what it answers, what it takes, what it writes, and who finds it."""

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.boot.installed import CALLS, UNIT, Installed, complaints, memory, say
from tests.boot.vm import ADDRESS, Computer, copy
from tests.device.test_boards import alike
from tests.discovery.segment import discovered, segment

IDLE_S = 300.0
FIND_S = 60.0


def test_it_answers_what_an_x86_answers(computer: Computer, installed: Installed, here: dict[str, Any]) -> None:
    assert computer.run(f"systemctl is-active {UNIT}") == "active\n"
    say(f"before the first call: {memory_of_server(computer)}")
    installed.answers_right(computer, here, "detect_objects", "detect_faces")
    say(f"after two tools: {memory(computer)}")


def memory_of_server(computer: Computer) -> str:
    main = f"$(systemctl show --value --property=MainPID {UNIT})"
    return " ".join(computer.run(f"grep VmRSS /proc/{main}/status; grep MemAvailable /proc/meminfo").split())


def test_its_second_boot_is_clean(computer: Computer) -> None:
    assert int(computer.run("journalctl --list-boots --quiet | wc -l")) == 2
    assert complaints(computer) == ""
    assert computer.run(f"systemctl show --value --property=NRestarts {UNIT}") == "0\n"


def test_it_is_found_over_a_bridge(installed: Installed, tmp_path: Path) -> None:
    with segment(1) as lan:
        folder = copy(installed.folder, tmp_path / "computer")
        with Computer(folder, installed.bundles, "ready", lan.bridge.enter):
            deadline = time.monotonic() + FIND_S
            since = time.monotonic()
            said = ""
            while "cupboard" not in said:
                assert time.monotonic() < deadline, said
                said = json.dumps(discovered(lan.hosts[0]))
            say(f"found after {time.monotonic() - since:.1f} s: {said}")
            assert ADDRESS in said


def test_nothing_is_written_while_it_is_idle(
    computer: Computer, installed: Installed, here: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    idle_s = min(IDLE_S, request.config.getoption("--seconds"))
    installed.answers_right(computer, here, "detect_objects")
    computer.run("sync; sleep 60; sync")  # what belongs to the boot and the call: Debian's timers, the journal
    before = writes(computer)
    time.sleep(idle_s)
    after = writes(computer)
    say(f"idle for {idle_s:.0f} s: the service wrote {after[0] - before[0]} bytes, the disk {after[1] - before[1]} sectors")
    assert after[0] == before[0]


def writes(computer: Computer) -> tuple[int, int]:
    """Bytes that the processes of the service have written, and sectors that anybody wrote to the disk."""
    said = computer.run(
        f"cat $(sed 's,.*,/proc/&/io,' /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs) | grep ^write_bytes; "
        "cat /sys/block/vda/stat"
    ).splitlines()
    return sum(int(line.split()[1]) for line in said[:-1]), int(said[-1].split()[6])


def test_all_models_at_random_fit_into_512_mb(
    computer: Computer, installed: Installed, here: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    seconds = request.config.getoption("--seconds")
    chance = random.Random(8)
    deadline, calls = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        tools = chance.choices(list(CALLS), k=8)
        for tool, answer in asyncio.run(installed.answers(computer, tools)):
            alike({tool: answer}, {tool: here[tool]})
        calls += len(tools)
    say(f"{calls} calls at random in {seconds:.0f} s: {memory(computer)}")
    events = computer.run(f"cat /sys/fs/cgroup/system.slice/{UNIT}/memory.events")
    assert "oom_kill 0" in events
    assert computer.run("grep ^oom_kill /proc/vmstat") == "oom_kill 0\n"
    assert complaints(computer) == ""
