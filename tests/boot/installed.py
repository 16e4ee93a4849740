"""A computer with edge-mcp on it, and how it is called."""

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mcp.client import connect
from tests.boot.vm import Computer, copy
from tests.device.test_boards import CALLS as OTHERS
from tests.device.test_boards import alike, inline
from tests.processes import serving

READY = "ready"
UNIT = "edge-mcp.service"
CALLS = {**OTHERS, "read_text": {"image": inline("rendered_text.png")}}
"""Of every model that ships."""
CALL_S = 300.0


def say(line: str) -> None:
    """A figure that was seen, for the log of the run."""
    sys.stderr.write(f"\n    {line}")
    sys.stderr.flush()


@dataclass(frozen=True)
class Installed:
    """A switched-off computer with edge-mcp on it, and a snapshot `READY` of it in which it has booted a second time."""

    folder: Path
    bundles: tuple[Path, ...]
    token: str
    fingerprint: str

    def woken(self, folder: Path) -> Computer:
        """A copy of it, as it was in the snapshot."""
        return Computer(copy(self.folder, folder), self.bundles, READY)

    def booted(self, folder: Path) -> Computer:
        """The computer whose disk is in `folder`, from its start."""
        return Computer(folder, self.bundles)

    async def answers(self, computer: Computer, tools: Iterable[str]) -> list[tuple[str, Any]]:
        """What these tools answer, called one after the other over one connection."""
        given = []
        url = f"wss://127.0.0.1:{computer.port}/mcp"
        async with connect(url, token=self.token, fingerprint=self.fingerprint, timeout=CALL_S, retries=20) as device:
            for tool in tools:
                result = await device.call(tool, **CALLS[tool])
                given.append((tool, _lasting(result.structured)))
        return given

    def answers_right(self, computer: Computer, here: dict[str, Any], *tools: str) -> None:
        """These tools answer what they answer here."""
        for tool, answer in asyncio.run(self.answers(computer, tools)):
            alike({tool: answer}, {tool: here[tool]})


async def answers_here() -> dict[str, Any]:
    """What this machine answers."""
    async with serving("--stdio") as served:
        results = {tool: await served.call(tool, **arguments) for tool, arguments in CALLS.items()}
    for tool, result in results.items():
        assert not result.get("isError"), f"{tool}: {result}"
    return {tool: _lasting(result["structuredContent"]) for tool, result in results.items()}


def _lasting(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "inference_ms"}


def memory(computer: Computer) -> str:
    """What the service takes, in words."""
    script = f"""
    main=$(systemctl show --value --property=MainPID {UNIT})
    for pid in $main $(cat /proc/$main/task/$main/children); do grep -h -e VmRSS -e VmHWM /proc/$pid/status; done
    cat /sys/fs/cgroup/system.slice/{UNIT}/memory.current /sys/fs/cgroup/system.slice/{UNIT}/memory.peak
    grep -h -e MemTotal -e MemAvailable /proc/meminfo
    """
    lines = computer.run(script).splitlines()
    kilobytes = [(line.split()[0].rstrip(":"), int(line.split()[1]) / 1024) for line in lines if ":" in line]
    seen = dict.fromkeys(name for name, _ in kilobytes)
    for name in seen:
        seen[name] = " + ".join(f"{value:.0f}" for other, value in kilobytes if other == name)
    now, peak = (int(line) / 2**20 for line in lines if ":" not in line)
    return (
        f"server + engine {seen['VmRSS']} MiB (at most {seen['VmHWM']}), cgroup {now:.0f} MiB (at most {peak:.0f}), "
        f"of {seen['MemTotal']} MiB there are {seen['MemAvailable']} available"
    )


def complaints(computer: Computer) -> str:
    """Units that failed, and what edge-mcp logged as an error since the boot; nothing when all is well."""
    failed = computer.run("systemctl --failed --quiet --plain --no-legend")
    logged = computer.run(f"journalctl --boot --quiet --no-pager --unit={UNIT} --output=cat")
    bad = [line for line in logged.splitlines() if any(word in line for word in ("Traceback", "ERROR", "WARNING", "killed"))]
    return failed + "\n".join(bad)
