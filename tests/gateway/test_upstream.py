"""One device behind the gateway: real ones, that restart, move, refuse and say nothing."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_mcp.client.client import Client, NotSent
from edge_mcp.client.messages import ListedTool
from edge_mcp.client.resolve import Target
from edge_mcp.errors import CallError, ConfigError, UncertainError
from edge_mcp.gateway import upstream as upstream_module
from edge_mcp.gateway.upstream import MAX_BYTES, MAX_LISTED, Upstream, _listed
from edge_mcp.protocol.codec import codec_of
from edge_mcp.transports.base import Connection
from tests.gateway.devices import Place, replicas, until, upstreams
from tests.processes import serving


async def test_what_a_device_offers_is_known_and_followed(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as [up]:
        assert (up.name, up.id, up.state, up.why) == ("a", "id-a", "up", "")
        assert {"work", "once"} <= up.names
        assert next(tool for tool in up.tools if tool.name == "work").repeatable
        assert "note://one" in [resource.uri for resource in up.resources]
        assert [template.uriTemplate for template in up.templates] == ["note://{number}/text"]
        assert "greet" in [prompt.name for prompt in up.prompts]
        assert up.rtt_s > 0
        told: list[str] = []
        up.changed.append(told.append)
        await up.once(lambda client: client.call_tool("learn", {"name": "more"}))
        await until(lambda: "more" in up.names)
        assert "tools" in told
        assert (await up.ask(lambda client: client.read("note://one"))).text == "a"


async def test_a_device_that_advertises_nothing_says_its_load_itself() -> None:
    async with serving("--listen", "127.0.0.1:0") as served:
        up = Upstream(Place("served", "", served.url))
        try:
            up.load = 9
            up.start()
            await until(lambda: up.state == "up")
            assert up.id == served.url
            assert 0 <= up.load <= 3
            assert "device_status" in up.names
            up.announce([up.target], 7)
            assert up.load == 3
        finally:
            await up.close()


async def test_one_that_was_killed_is_away_at_once_and_back_when_it_is(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as [up]:
        states: list[str] = []
        up.changed.append(lambda word: states.append(up.state) if word == "state" else None)
        await devices[0].kill()
        await until(lambda: up.state == "away")
        assert up.why
        assert up.names, "what it offered is kept"
        with pytest.raises(NotSent):
            await up.once(lambda client: client.list_tools())
        await devices[0].start()
        up.announce([up.target], 0)
        await until(lambda: up.state == "up")
        assert states == ["away", "up"]


async def test_one_that_moved_is_found_at_its_new_address(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a", "b") as devices, upstreams(devices[0]) as [up]:
        await devices[0].kill()
        await until(lambda: up.state == "away")
        up.announce([replace(devices[1].place, name="a", id="id-a")], 2)
        await until(lambda: up.state == "up")
        assert up.load == 2
        result = await up.once(lambda client: client.call_tool("told", {}))
        assert not result.isError


async def test_where_others_pose_as_a_device_all_that_say_so_are_tried(tmp_path: Path) -> None:
    nobody = Place("a", "id-a", "ws://127.0.0.1:9/mcp")
    async with replicas(tmp_path, "a") as devices, upstreams(devices[0]) as [up]:
        await devices[0].kill()
        await until(lambda: up.state == "away")
        await devices[0].start()
        up.announce([nobody, devices[0].place], 0)
        await until(lambda: up.state == "up")


async def test_one_that_refuses_is_left_alone_until_it_is_announced(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a") as devices:
        right = devices[0].place
        up = Upstream(replace(right, url=right.url.replace("/mcp", "/else")))
        try:
            up.start()
            await until(lambda: up.state == "refused")
            assert "404" in up.why
            up.announce([right], 0)
            await until(lambda: up.state == "up")
        finally:
            await up.close()


async def test_one_that_is_said_to_be_gone_has_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "DOUBT_S", 0.5)
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as [up]:
        states: list[str] = []
        up.changed.append(states.append)
        up.doubt()
        await until(lambda: not any("_doubted" in str(task.get_coro()) for task in up._tasks))
        assert up.state == "up"
        assert not states
        devices[0].send(signal.SIGSTOP)
        up.doubt()
        await until(lambda: up.state == "away")
        devices[0].send(signal.SIGCONT)
        await until(lambda: up.state == "up")


async def test_a_device_that_dies_takes_both_connections_with_it(tmp_path: Path) -> None:
    async with replicas(tmp_path, "a") as devices, upstreams(*devices) as [up]:
        assert await up.once(lambda client: _encoding(client)) == "json"
        assert await up.once(lambda client: _encoding(client), "msgpack") == "msgpack"
        await devices[0].kill()
        await until(lambda: up.state == "away")
        with pytest.raises((NotSent, UncertainError)):
            await up.once(lambda client: client.list_tools(), "msgpack")


async def _encoding(client: Client) -> str:
    return client.codec.name


async def test_of_what_a_device_lists_no_more_is_taken_than_is_good() -> None:
    class Hostile:
        """Lists without end, and what is no tool."""

        codec = codec_of("json")

        def __init__(self, about: str, tools: Any = None) -> None:
            self.about = about
            self.tools = tools

        async def request(self, method: str, params: dict[str, Any], kind: type[msgspec.Raw]) -> msgspec.Raw:
            page = int(params.get("cursor", 0))
            tools = [7, {"name": 3}, *({"name": f"t{page}-{n}", "description": self.about} for n in range(98))]
            return msgspec.Raw(msgspec.json.encode({"tools": self.tools or tools, "nextCursor": str(page + 1)}))

    tools = await _listed(Hostile("short"), "tools/list", "tools", ListedTool)  # type: ignore[arg-type]
    assert 400 < len(tools) <= MAX_LISTED
    assert tools[0].name == "t0-0"
    large = await _listed(Hostile("x" * (MAX_BYTES // 150)), "tools/list", "tools", ListedTool)  # type: ignore[arg-type]
    assert 0 < sum(len(tool.description) for tool in large) <= MAX_BYTES
    for tools_ in ({"a": 1}, 7, "text"):
        with pytest.raises(CallError, match="not what MCP says"):
            await _listed(Hostile("", tools_), "tools/list", "tools", ListedTool)  # type: ignore[arg-type]


@pytest.mark.parametrize("turns", range(6))
async def test_a_device_that_comes_at_the_moment_of_the_end_keeps_nobody_from_ending(turns: int) -> None:
    async def refuse() -> Connection:
        raise ConfigError("nobody there")

    target = Target("a", "id-a", "ws://127.0.0.1:9/mcp")
    up = Upstream(target, dial=lambda _target, _encodings: refuse)
    up.start()
    await until(lambda: up.state == "refused")
    up.announce([target], 0)
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await up.close()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_device_that_changes_all_the_time_is_heard_ever_more_rarely() -> None:
    lists = 0

    class Restless:
        """Changes as soon as it was looked at."""

        version = "2025-11-25"
        codec = codec_of("json")

        def __init__(self) -> None:
            self.note: Callable[[str], None] = lambda _: None

        async def listen(self, wanted: Any, note: Callable[[str], None]) -> None:
            self.note = note
            note("tools")
            await asyncio.get_running_loop().create_future()

        async def request(self, method: str, *_: Any) -> msgspec.Raw:
            nonlocal lists
            lists += method == "tools/list"
            asyncio.get_running_loop().call_soon(self.note, "tools")
            return msgspec.Raw(b"{}")

    up = Upstream(Target("a", "id-a", "ws://127.0.0.1:9/mcp"), load=0)
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await up._listen(Restless())  # type: ignore[arg-type]
    assert 1 <= lists <= 5
    await up.close()
