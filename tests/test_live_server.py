"""A real server whose models change while it is called."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.processes import ROOT, Served, serving
from tests.repository.constants import constant, manifest, write

RATE, MOST = 200, 256
"""Calls a second, and at once: a busy machine takes fewer."""
REPLACEMENTS = 50


class Caller:
    """A client on a WebSocket that has many calls in flight, and hears what changes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.heard: list[str] = []
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0

    async def read(self) -> None:
        async for message in self._socket:
            decoded = json.loads(message.data)
            if "id" in decoded:
                self._waiting.pop(decoded["id"]).set_result(decoded)
            else:
                self.heard.append(decoded["method"])

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        future = self._waiting[self._count] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}))
        return await asyncio.wait_for(future, 60)

    async def tools(self) -> list[str]:
        """Of the models."""
        listed = (await self.ask("tools/list"))["result"]["tools"]
        return [tool["name"] for tool in listed if tool["name"] != "device_status"]

    async def add(self, name: str = "adder") -> float:
        """What the model answers to 0: its version."""
        got = await self.ask("tools/call", name=name, arguments={"x": [0.0]})
        assert "result" in got, got
        result = got["result"]
        assert not result.get("isError"), result
        return float(result["structuredContent"]["outputs"]["y"]["data"][0])

    async def status(self) -> dict[str, Any]:
        result = (await self.ask("resources/read", uri="device://status"))["result"]
        status: dict[str, Any] = json.loads(result["contents"][0]["text"])
        return status

    async def card(self, name: str) -> dict[str, Any]:
        result = (await self.ask("resources/read", uri=f"model://{name}"))["result"]
        card: dict[str, Any] = json.loads(result["contents"][0]["text"])
        return card


@asynccontextmanager
async def calling(served: Served) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session, session.ws_connect(served.url, protocols=["mcp"]) as socket:
        caller = Caller(socket)
        reading = asyncio.create_task(caller.read())
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await caller.ask("initialize", **hello)
        await socket.send_str(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        yield caller
        await socket.close()
        await reading


@asynccontextmanager
async def live(folder: Path, *flags: str) -> AsyncIterator[tuple[Served, Caller]]:
    cache = str(folder.parent / "cache")
    arguments = ("--listen", "127.0.0.1:0", "--models", str(folder), *flags)
    async with serving(*arguments, XDG_CACHE_HOME=cache) as served, calling(served) as caller:
        yield served, caller


async def until(true: Callable[[], Awaitable[bool]], what: str, told: Callable[[], Awaitable[object]] | None = None) -> None:
    for _ in range(3000):
        if await true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it never came to be that {what}: {await told() if told else ''}")


async def answers(caller: Caller, number: float, name: str = "adder") -> None:
    async def does() -> bool:
        return name in await caller.tools() and await caller.add(name) == number

    await until(does, f"{name} answers {number}", caller.status)


async def explained(caller: Caller, *words: str) -> None:
    async def is_told() -> bool:
        return any(all(word in problem for word in words) for problem in (await caller.status())["problems"])

    await until(is_told, f"a problem tells of {words}", caller.status)


def by_rename(target: Path, number: int, version: str = "", content: bytes | None = None) -> None:
    new = write(target.parent.parent / "new" / target.name, number, version, content)
    target.rename(target.parent.parent / f"old-{number}-{os.urandom(4).hex()}")
    new.rename(target)


async def slowly(file: Path, content: bytes, pieces: int = 8) -> None:
    with file.open("wb", buffering=0) as opened:
        for start in range(0, len(content), len(content) // pieces + 1):
            opened.write(content[start : start + len(content) // pieces + 1])
            await asyncio.sleep(0.04)


async def replaced(caller: Caller, target: Path, step: int, number: int) -> int:
    """Replace what is in `target` in one of seven ways; the number that it answers then."""
    good = constant(number + 1)
    match step % 7:
        case 0:
            by_rename(target, number + 1)
        case 1:
            by_rename(target, number + 1, content=good[: len(good) // 2])
            await explained(caller, "adder", "SHA-256")
            return number
        case 2:
            write(target, number + 1)
        case 3:
            flipped = bytes(byte ^ 255 for byte in good[:64]) + good[64:]
            write(target, number + 2, content=flipped)
            await explained(caller, "adder", "SHA-256")
            return number
        case 4:
            (target / "model.toml").write_text(manifest(f"{number + 1}.0.0", good))
            await slowly(target / "model.onnx", good)
        case 5:
            by_rename(target, 1, "0.9.0")
            await explained(caller, "adder", "0.9.0", "--allow-downgrade")
            return number
        case 6:
            shutil.rmtree(target)
            target.mkdir()
            await slowly(target / "model.onnx", good)
            (target / "model.toml").write_text(manifest(f"{number + 1}.0.0", good))
    await answers(caller, number + 1)
    return number + 1


async def test_no_call_is_lost_while_a_model_is_replaced_again_and_again(tmp_path: Path) -> None:
    target = write(tmp_path / "models" / "adder", 1)
    failures: list[object] = []
    wrong: list[tuple[float, float]] = []
    counts = {"calls": 0}
    seen = 1.0

    async def call(caller: Caller) -> None:
        nonlocal seen
        least = seen
        try:
            answer = await caller.add()
        except (AssertionError, TimeoutError, KeyError) as error:
            failures.append(error)
            return
        counts["calls"] += 1
        if not least <= answer <= newest + 1:
            wrong.append((least, answer))
        seen = max(seen, answer)

    async def load(caller: Caller) -> None:
        calls: set[asyncio.Task[None]] = set()
        try:
            while True:
                if len(calls) < MOST:
                    calls.add(task := asyncio.create_task(call(caller)))
                    task.add_done_callback(calls.discard)
                await asyncio.sleep(1 / RATE)
        except asyncio.CancelledError:
            await asyncio.gather(*calls)
            raise

    newest = 1
    async with live(tmp_path / "models") as (served, caller), calling(served) as watcher:
        await answers(caller, 1)
        loading = asyncio.create_task(load(caller))
        began = asyncio.get_running_loop().time()
        try:
            for step in range(REPLACEMENTS):
                newest = await replaced(watcher, target, step, newest)
        finally:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
        seconds = asyncio.get_running_loop().time() - began
        listed = watcher.heard.count("notifications/tools/list_changed")
        report = "%d calls in %.1f s, up to version %d, list_changed %d times"
        logging.getLogger(__name__).warning(report, counts["calls"], seconds, newest, listed)
    assert (failures[:3], wrong[:3]) == ([], [])
    assert counts["calls"] > REPLACEMENTS
    assert listed >= newest - 1


async def test_an_engine_that_dies_of_a_new_model_costs_no_call(tmp_path: Path) -> None:
    target = write(tmp_path / "models" / "adder", 1)
    async with live(target.parent) as (served, caller):
        await answers(caller, 1)
        engine = served.engine_pid()
        by_rename(target, 2)
        trials: set[int] = set()

        async def is_tried() -> bool:
            children = Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
            trials.update(int(child) for child in children if int(child) != engine)
            assert await caller.add() == 1
            return bool(trials)

        await until(is_tried, "a second engine runs")
        os.kill(trials.pop(), signal.SIGKILL)
        await answers(caller, 2)
        assert served.engine_pid() == engine
        assert (await caller.status())["calls"]["failed"] == 0


async def test_bare_files_come_change_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    async with live(folder) as (served, caller):
        assert await caller.tools() == []
        await slowly(folder / "plus.onnx", constant(1))
        await answers(caller, 1, "plus")
        assert "notifications/tools/list_changed" in caller.heard
        assert "notifications/resources/list_changed" in caller.heard
        await slowly(folder / "plus.onnx", constant(2))
        await answers(caller, 2, "plus")
        (folder / "plus.onnx").write_bytes(constant(3)[:1000])
        await explained(caller, str(folder / "plus.onnx"))
        assert await caller.add("plus") == 2
        card = await caller.card("plus")
        assert (card["versions"]["active"], bool(card["versions"]["refused"])) == ("0.0.0", True)
        assert [line for line in served.log if str(folder / "plus.onnx") in line]
        assert not [line for line in served.log if "staging" in line]
        (folder / "plus.onnx").unlink()

        async def is_gone() -> bool:
            return await caller.tools() == []

        await until(is_gone, "the tool is gone")
        assert served.engine_pid() is not None  # its idle time has begun, no more


async def test_a_server_goes_on_with_what_the_one_before_it_served(tmp_path: Path) -> None:
    target = write(tmp_path / "models" / "adder", 1)
    async with live(target.parent) as (served, caller):
        by_rename(target, 2)
        await answers(caller, 2)
    write(target, 3, content=b"no model")
    async with live(target.parent) as (served, caller):
        await explained(caller, "SHA-256")
        assert await caller.tools() == ["adder"]
        assert served.engine_pid() is None  # a list needs no engine
        assert await caller.add() == 2


async def test_several_servers_and_the_command_line_follow_each_other(tmp_path: Path) -> None:
    target = write(tmp_path / "models" / "adder", 1)
    async with live(target.parent) as (_, one), live(target.parent) as (_, other):
        by_rename(target, 2)
        await answers(one, 2)
        await answers(other, 2)
        command = ["models", "use", "adder", "1.0.0", "--allow-downgrade", "--models", str(target.parent)]
        using = await asyncio.create_subprocess_exec(sys.executable, "-m", "edge_mcp", *command, cwd=ROOT)
        assert await using.wait() == 0
        await answers(one, 1)
        await answers(other, 1)


async def test_a_folder_of_models_is_deleted_and_made_again_behind_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real" / "adder", 1)
    (tmp_path / "models").symlink_to("real")
    async with live(tmp_path / "models") as (_, caller):
        await answers(caller, 1)
        shutil.rmtree(tmp_path / "real")
        await explained(caller, "not there any more")

        async def is_gone() -> bool:
            return await caller.tools() == []

        await until(is_gone, "the tool is gone")
        write(tmp_path / "real" / "adder", 2)
        await answers(caller, 2)
        write(tmp_path / "next" / "adder", 3)
        (tmp_path / "link").symlink_to("next")
        (tmp_path / "link").rename(tmp_path / "models")
        await answers(caller, 3)


async def test_a_folder_that_this_user_cannot_write_is_served_in_place(tmp_path: Path) -> None:
    target = write(tmp_path / "models" / "adder", 1)
    (target.parent / ".edge-mcp").symlink_to("nowhere")  # as good as read-only, also for root
    async with live(target.parent) as (_, caller):
        await answers(caller, 1)
        by_rename(target, 2)
        await answers(caller, 2)
        by_rename(target, 3, content=b"no model")
        await explained(caller, str(target), "whole ONNX file")
        assert await caller.add() == 2  # it is in memory still


async def test_the_users_own_folder_may_come_while_the_server_runs(tmp_path: Path) -> None:
    async with serving("--listen", "127.0.0.1:0", XDG_DATA_HOME=str(tmp_path)) as served, calling(served) as caller:
        shipped = await caller.tools()
        write(tmp_path / "edge-mcp" / "models" / "adder", 1)
        await answers(caller, 1)
        assert set(await caller.tools()) == {*shipped, "adder"}
        served.process.send_signal(signal.SIGHUP)
        await answers(caller, 1)
