"""Sensors read for real: files, folders and programs that behave, hang, flood and fail."""

import asyncio
import os
import shlex
import sys
from pathlib import Path

import pytest

from edge_mcp.errors import ArgumentError, SensorError
from edge_mcp.sensors.capture import MAX_BYTES, Sensors
from edge_mcp.sensors.settings import sensors_of

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


def python(code: str) -> str:
    """A command line that runs a few lines of Python."""
    return f"x=command:{shlex.quote(sys.executable)} -S -c {shlex.quote(code)}"


def sensors(*settings: str, limit_s: float = 15) -> Sensors:
    return Sensors(sensors_of(settings), limit_s)


async def taken(*settings: str, limit_s: float = 15) -> bytes:
    room = sensors(*settings, limit_s=limit_s)
    return (await room.capture(room.all[0])).data


async def refusal(*settings: str, limit_s: float = 15) -> str:
    with pytest.raises(SensorError) as raised:
        await taken(*settings, limit_s=limit_s)
    assert "\n" not in str(raised.value)
    return str(raised.value)


async def gone(pid: int) -> bool:
    """Whether a process is no more, after a while."""
    for _ in range(3000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        await asyncio.sleep(0.01)
    return False


async def written(file: Path, lines: int = 1) -> list[int]:
    """The numbers that a program has written to a file, once there are so many."""
    for _ in range(3000):
        if file.exists() and len(words := file.read_text().split()) >= lines and file.read_text().endswith("\n"):
            return [int(word) for word in words]
        await asyncio.sleep(0.01)
    raise AssertionError("the program wrote nothing")


async def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "a b.png"
    room = sensors(f"door=file:{tmp_path}/a%20b.png")
    for content in (PNG + b"1", JPEG + b"2"):
        file.write_bytes(content)
        snapshot = await room.capture(room.all[0])
        assert snapshot.data == content
        assert snapshot.mime_type == ("image/png" if content.startswith(PNG) else "image/jpeg")


async def test_a_folder_is_played_in_order_and_wraps_round(tmp_path: Path) -> None:
    room = sensors(f"x=folder:{tmp_path}")
    for name in ("b.png", "a.PNG", ".hidden.png", "notes.txt", "c.jpg"):
        (tmp_path / name).write_bytes(PNG + name.encode())
    (tmp_path / "d.png").mkdir()
    names = [(await room.capture(room.all[0])).data[8:].decode() for _ in range(4)]
    assert names == ["a.PNG", "b.png", "c.jpg", "a.PNG"]
    (tmp_path / "b.png").unlink()
    (tmp_path / "bb.png").write_bytes(PNG + b"bb.png")
    assert (await room.capture(room.all[0])).data[8:] == b"bb.png"


async def test_what_a_file_cannot_be_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "No such file" in await refusal(f"x=file:{tmp_path}/none.png")
    assert "Is a directory" in await refusal(f"x=file:{tmp_path}")
    assert "is not a regular file" in await refusal(f"x=file:{tmp_path}/fifo.png")
    assert "is not a regular file" in await refusal("x=file:/dev/zero")
    assert "larger than 32 MiB" in await refusal(f"x=file:{tmp_path}/huge.png")
    assert "gave nothing" in await refusal(f"x=file:{tmp_path}/empty.png")
    assert "5 bytes that are neither picture nor sound" in await refusal(f"x=file:{tmp_path}/text.png")
    assert "there is no picture and no sound" in await refusal(f"x=folder:{tmp_path}/empty")
    assert "cannot be read" in await refusal(f"x=folder:{tmp_path}/none")


async def test_a_program_gives_what_it_writes() -> None:
    code = (
        "import sys; sys.stdout.buffer.write(b'\\x89PNG\\r\\n\\x1a\\n' + b'x' * 1_000_000); sys.stderr.write('noise\\n' * 9999)"
    )
    assert await taken(python(code)) == PNG + b"x" * 1_000_000


async def test_a_program_runs_without_shell_input_or_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_MCP_TOKEN", "secret")
    code = (
        "import os, sys; assert sys.argv[1:] == ['$HOME', ';', 'a b'], sys.argv; assert sys.stdin.read() == ''; "
        "assert 'EDGE_MCP_TOKEN' not in os.environ; sys.stdout.buffer.write(b'\\xff\\xd8\\xff')"
    )
    assert await taken(python(code) + " $HOME ';' 'a b'") == JPEG


async def test_a_program_that_fails_is_told_and_its_words_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    said = await refusal(python("import sys; print('at work', file=sys.stderr); sys.exit('the secret is 7')"))
    assert "ended with status 1. The log of edge-mcp has its last words" in said
    assert "secret" not in said
    assert "the secret is 7" in caplog.text
    assert "was ended by signal 9" in await refusal(python("import os; os.kill(os.getpid(), 9)"))
    assert "'no-such-program' cannot be started: No such file" in await refusal("x=command:no-such-program -v")
    assert "cannot be started: Permission denied" in await refusal("x=command:/etc/passwd")
    assert "gave nothing" in await refusal("x=command:true")


async def test_a_program_that_hangs_is_ended_with_its_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"child = subprocess.Popen(['sleep', '600']); open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n'); "
        "time.sleep(600)"
    )
    assert "it took longer than 1 s. See what it waits for, or raise sensor_timeout_s" in await refusal(python(code), limit_s=1)
    for pid in await written(pids, 2):
        assert await gone(pid)


async def test_what_a_program_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        f"import subprocess, sys; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(pids)!r}, 'w').write(f'{{child.pid}}\\n'); "
        "sys.stdout.buffer.write(b'\\xff\\xd8\\xff')"
    )
    assert await taken(python(code)) == JPEG  # at once, although the child holds the pipe
    (pid,) = await written(pids)
    assert await gone(pid)


async def test_a_program_that_floods_is_ended(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        f"import os, sys; open({str(pids)!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "while True: sys.stdout.buffer.write(b'\\xff\\xd8\\xff' * 100000)"
    )
    assert "it gave more than 32 MiB" in await refusal(python(code))
    (pid,) = await written(pids)
    assert await gone(pid)


async def test_a_capture_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    room = sensors(python(code))
    one, two = (asyncio.create_task(room.capture(room.all[0])) for _ in range(2))
    (pid,) = await written(pids)  # one program for both
    one.cancel()
    await asyncio.wait([one])
    assert Path(f"/proc/{pid}").exists()
    two.cancel()
    await asyncio.wait([two])
    assert await gone(pid)


async def test_who_asks_at_the_beginning_of_a_capture_shares_it_and_who_asks_later_gets_the_next(tmp_path: Path) -> None:
    now = 0.0
    go, count = tmp_path / "go", tmp_path / "count"
    code = (
        f"import os, sys, time; open({str(count)!r}, 'a').write('1\\n')\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"sys.stdout.buffer.write(b'\\xff\\xd8\\xff' + str(len(open({str(count)!r}).read()) // 2).encode())"
    )
    room = Sensors(sensors_of([python(code)]), 15, lambda: now)
    early = [asyncio.create_task(room.capture(room.all[0])) for _ in range(3)]
    await written(count)
    now = 0.4
    early.append(asyncio.create_task(room.capture(room.all[0])))
    await asyncio.sleep(0)
    now = 0.6
    late = [asyncio.create_task(room.capture(room.all[0])) for _ in range(3)]
    await asyncio.sleep(0)
    go.touch()
    assert {(await task).data for task in early} == {JPEG + b"1"}
    assert {(await task).data for task in late} == {JPEG + b"2"}


async def test_only_what_is_configured_is_found() -> None:
    room = sensors("door=file:/x.png", "hall=file:/y.png")
    assert room.find("sensor://door").name == "door"
    assert room.get("sensor://file:/etc/passwd") is None
    for uri in ("sensor://dor", "sensor://door/", "sensor://door?width=1", "sensor://../door", "sensor:door", "SENSOR://door"):
        with pytest.raises(ArgumentError, match=r"there is no sensor .*(Did you mean sensor://door\?|sensor://hall)"):
            room.find(uri)
