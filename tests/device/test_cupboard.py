"""A device that is left alone: nothing is written while nothing happens, and what fails costs no more than it must.

As root: disks that are full or read-only are mounted, and what a kernel says of a board is put where this one's words are.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from tests.discovery.segment import Segment, address, segment
from tests.processes import ROOT, SERVE, Served, serving
from tests.repository.constants import write
from tests.test_live_server import Caller, calling

TIMED = str(Path(__file__).with_name("timed.py"))
CALLS = (("detect_language", {"text": "Wo ist der Bahnhof?"}), ("identify_file", {"data": "iVBORw0KGgo="}))


class Where(TypedDict, total=False):
    """What of the environment a test gives to edge-mcp."""

    XDG_CACHE_HOME: str
    XDG_DATA_HOME: str


def written(pid: int) -> dict[str, int]:
    """What a process has given to files and pipes, and what it had a disk written."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    counts = {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}
    return {name: counts[name] for name in ("wchar", "syscw", "write_bytes")}


def wakes(pid: int) -> int:
    """How often its threads have slept."""
    files = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(found[1]) for file in files if (found := re.search(r"\nvoluntary_ctxt_switches:\s(\d+)", file.read_text())))


async def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it never came to be that {what}")


async def settled(served: Served, *pids: int) -> None:
    """What follows calls, as measuring what batches cost, has ended."""
    before: object = None
    while before != (now := ([written(pid) for pid in pids], list(served.log))):
        before = now
        await asyncio.sleep(1)


async def call_all(caller: Caller) -> None:
    for name, arguments in CALLS:
        answer = await caller.ask("tools/call", name=name, arguments=arguments)
        assert not answer["result"].get("isError"), answer


@asynccontextmanager
async def timed(folder: Path, rate: int, *flags: str, **environment: Unpack[Where]) -> AsyncIterator[tuple[Served, Caller]]:
    """A server whose clocks are the test's."""
    program = [sys.executable, TIMED, str(rate), "serve"]
    arguments = ("--listen", "127.0.0.1:0", *flags)
    async with (
        serving(
            *arguments, program=program, XDG_CACHE_HOME=str(folder / "cache"), PYTHONPATH=str(ROOT), **environment
        ) as served,
        calling(served) as caller,
    ):
        yield served, caller


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_while_idle_nothing_is_written_and_nothing_said(tmp_path: Path) -> None:
    """An hour within seconds, with a peer that stays connected. (With systemd's watchdog: test_service.py.)"""
    rate, idle_s = 400, 3600
    async with timed(tmp_path, rate, "--preload", "language-detector") as (served, caller):
        await call_all(caller)
        await until(lambda: len(list(tmp_path.glob("cache/edge-mcp/curves/*.json"))) == 2, "both were measured")
        os.kill(served.pid, signal.SIGUSR1)
        await until(lambda: any("unloaded" in line for line in served.log), "a model that is not preloaded leaves")
        engine = served.engine_pid()
        assert engine is not None
        pids = (served.pid, engine)
        await settled(served, *pids)
        before, said, slept = [written(pid) for pid in pids], list(served.log), [wakes(pid) for pid in pids]
        await asyncio.sleep(idle_s / rate)
        assert [written(pid) for pid in pids] == before
        assert served.log == said
        assert served.engine_pid() == engine
        rates = [(wakes(pid) - then) / idle_s * 60 for pid, then in zip(pids, slept, strict=True)]
        sys.stderr.write(f"wake-ups a minute, of server and engine: {rates[0]:.1f} {rates[1]:.1f}\n")


async def test_a_wall_clock_that_jumps_by_decades_is_nothing_to_anybody(tmp_path: Path) -> None:
    async with timed(tmp_path, 1) as (served, caller):
        await call_all(caller)
        tools = await caller.tools()
        for _ in range(6):
            os.kill(served.pid, signal.SIGUSR2)
            await call_all(caller)
            assert await caller.tools() == tools
        assert not [line for line in served.log if "failed" in line or "gone" in line], served.log


async def test_a_full_disk_costs_what_would_be_kept_and_nothing_else(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "64k") as full:
        (full / "ballast").write_bytes(bytes(60_000))
        with (full / "rest").open("wb", buffering=0) as rest:
            try:
                while rest.write(bytes(4096)):
                    continue
            except OSError:
                rest.flush()
        home = Where(XDG_CACHE_HOME=str(full / "cache"), XDG_DATA_HOME=str(full / "data"))
        async with serving("--listen", "127.0.0.1:0", **home) as served, calling(served) as caller:
            await call_all(caller)
            engine = served.engine_pid()
            assert engine is not None
            await settled(served, served.pid, engine)
            assert len([line for line in served.log if "No space left" in line]) == 1, served.log
            added = await _edge_mcp("models", "add", str(write(tmp_path / "adder", 1)), **home)
            assert added[0] == 1
            assert added[1].startswith("edge-mcp: ") and "No space left on device" in added[1] and added[1].count("\n") == 1
            await call_all(caller)
            assert {path.name for path in full.rglob("*") if path.is_file()} == {"ballast", "rest", ".gitignore"}


async def test_a_read_only_disk_costs_no_more(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "1m,ro") as kept:
        home = Where(XDG_CACHE_HOME=str(kept / "cache"), XDG_DATA_HOME=str(kept / "data"))
        async with serving("--listen", "127.0.0.1:0", **home) as served, calling(served) as caller:
            await call_all(caller)
            engine = served.engine_pid()
            assert engine is not None
            await settled(served, served.pid, engine)
            assert len([line for line in served.log if "Read-only" in line]) == 1, served.log
            for words in (("models", "add", str(write(tmp_path / "adder", 1))), ("token", "--new"), ("pair",)):
                status, said = await _edge_mcp(*words, **home)
                assert status == 1 and "Read-only file system" in said and said.count("\n") == 1, said
            status, said = await _edge_mcp("doctor", **home)
            assert status == 1 and f"PROBLEM  disk: {kept} is read-only" in said
            await call_all(caller)


async def test_a_weak_supply_and_a_failing_card_are_a_state_and_no_crash(tmp_path: Path) -> None:
    board = {
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "sys/fs/ext4/mmcblk0p2/errors_count": "3\n",
    }
    for path, text in board.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    there = "; ".join(f"mount --bind {tmp_path}/{path} /{path}" for path in ("sys/devices/platform", "sys/fs/ext4"))
    inside = ["unshare", "--mount", "--propagation=private", "sh", "-ec", f'{there}; exec "$@"', "sh"]
    async with serving("--listen", "127.0.0.1:0", program=[*inside, *SERVE]) as served, calling(served) as caller:
        for _ in range(3):
            await call_all(caller)
        status = (await caller.ask("tools/call", name="device_status", arguments={}))["result"]["structuredContent"]
        assert status["state"] != "NOMINAL" and "voltage" in json.dumps(status), status
        assert len([line for line in served.log if "the device is" in line]) == 1, served.log
    status, said = await _edge_mcp("doctor", program=[*inside, sys.executable, "-m", "edge_mcp"])
    assert status == 1
    assert "PROBLEM  throttling: now: the supply voltage was too low" in said
    assert "PROBLEM  file system: 3 errors on mmcblk0p2" in said


async def test_a_network_that_comes_late_finds_the_device_there() -> None:
    with segment(2) as lan:
        device, other = lan.hosts
        device.run("ip", "address", "flush", "dev", "eth")
        device.run("ip", "link", "set", "eth", "down")
        program = [*device.enter, *SERVE]
        async with serving("--listen", "*:8765", "--insecure", program=program) as served:
            await until(lambda: any("there is no network" in line for line in served.log), f"it is said: {served.log}")
            assert not await _found(lan)
            device.run("ip", "link", "set", "eth", "up")
            device.run("ip", "address", "add", f"{address(1)}/24", "dev", "eth")
            device.run("ip", "route", "add", "default", "dev", "eth")
            await until(lambda: any("advertised as" in line for line in served.log), f"it is advertised: {served.log}")
            (found,) = await _found(lan)
            assert address(1) in json.dumps(found)
            words = ("call", "detect_language", "text=Hallo", "--url", f"ws://{address(1)}:8765/mcp")
            status, said = await _edge_mcp(*words, program=[*other.enter, sys.executable, "-m", "edge_mcp"])
            assert status == 0, said
            assert len([line for line in served.log if "there is no network" in line]) == 1


async def _found(lan: Segment) -> list[object]:
    program = [*lan.hosts[1].enter, sys.executable, "-m", "edge_mcp"]
    _, said = await _edge_mcp("discover", "--json", program=program)
    decoded = json.loads(said)
    assert isinstance(decoded, list)
    return decoded


async def _edge_mcp(*words: str, program: list[str] | None = None, **environment: Unpack[Where]) -> tuple[int, str]:
    """The status of a command, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(program or [sys.executable, "-m", "edge_mcp"]),
        *words,
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode()
