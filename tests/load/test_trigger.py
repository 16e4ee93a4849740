"""What the kernel tells of pressure, and what is done where it does not."""

import asyncio
import os
import socket
from base64 import b64encode
from pathlib import Path

from edge_mcp.load.trigger import PRESSURE, STALL, Trigger


async def test_it_is_told_once_for_each_urgent_event_and_not_because_the_file_can_be_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as far:
        near, _ = listener.accept()
        told: list[int] = []
        heard = asyncio.Event()

        def hear() -> None:
            told.append(1)
            heard.set()

        trigger = Trigger(near.detach(), hear)
        for number in range(1, 3):
            far.send(b"plain")
            far.send(b"!", socket.MSG_OOB)  # urgent data is what else poll(2) calls POLLPRI
            await asyncio.wait_for(heard.wait(), 30)
            heard.clear()
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(told) == number
        trigger.close()


async def test_the_file_that_systemd_names_is_told_what_systemd_says(tmp_path: Path) -> None:
    file = tmp_path / "memory.pressure"
    file.write_bytes(b"")
    named = {"MEMORY_PRESSURE_WATCH": str(file), "MEMORY_PRESSURE_WRITE": b64encode(b"some 200000 2000000\0").decode()}
    # What is no file of the kernel's cannot be waited for.
    assert Trigger.open(lambda: None, environment=named) is None
    assert file.read_bytes() == b"some 200000 2000000\0"
    assert Trigger.open(lambda: None, environment=named | {"MEMORY_PRESSURE_WRITE": "?"}) is None
    assert file.read_bytes().startswith(STALL)
    assert Trigger.open(lambda: None, environment={"MEMORY_PRESSURE_WATCH": "/dev/null"}) is None


async def test_without_psi_there_is_none_and_no_descriptor_is_left(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert Trigger.open(lambda: None, tmp_path / "absent", {}) is None
    file = tmp_path / "memory"
    file.write_bytes(b"")
    assert Trigger.open(lambda: None, file, {}) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_this_kernel_takes_the_trigger_where_it_lets_us_write() -> None:
    trigger = Trigger.open(lambda: None, environment={})
    assert (trigger is not None) == os.access(PRESSURE, os.W_OK)
    if trigger is not None:
        trigger.close()
