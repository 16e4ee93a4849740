"""The Python API: what is written on it is served, beside the models."""

import asyncio
import subprocess
import sys
from typing import Annotated, Any, Literal

import msgspec
import pytest

from edge_mcp import Context, Server
from edge_mcp.errors import ConfigError
from tests.processes import ROOT
from tests.talk import LEGACY, MODERN, talking


def server(**options: Any) -> Server:
    return Server("test", models=False, **options)


def text(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_tool_has_the_schema_of_its_type_hints_and_answers(version: str) -> None:
    mine = server()

    @mine.tool(title="Add", annotations={"readOnlyHint": True})
    def add(a: Annotated[int, msgspec.Meta(description="First.", ge=0)], b: int = 2, mode: Literal["x", "y"] = "x") -> str:
        """Adds two
        numbers.

        And this is for programmers.
        """
        return f"{a + b} {mode}"

    async with talking(mine.connect, version) as talk:
        (listed,) = (await talk.ask("tools/list"))["tools"]
        assert listed == {
            "name": "add",
            "title": "Add",
            "description": "Adds two numbers.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "a": {"type": "integer", "description": "First.", "minimum": 0},
                    "b": {"type": "integer", "default": 2},
                    "mode": {"enum": ["x", "y"], "default": "x"},
                },
                "required": ["a"],
                "additionalProperties": False,
            },
            "annotations": {"readOnlyHint": True},
        }
        assert text(await talk.call("add", a=1)) == "3 x"
        cases: list[tuple[dict[str, Any], str]] = [
            ({}, "`a`"),
            ({"a": -1}, ">= 0"),
            ({"a": "1"}, "int"),
            ({"a": 1, "c": 2}, "`c`"),
        ]
        for wrong, said in cases:
            failed = await talk.call("add", **wrong)
            assert failed["isError"]
            assert said in text(failed)
            assert "It takes a, b (optional), mode (optional)" in text(failed)


async def test_what_a_tool_raises_is_a_result_that_says_no_more_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    mine = server()

    @mine.tool()
    def refuse() -> str:
        raise ValueError("not today")

    @mine.tool()
    async def crash() -> str:
        raise RuntimeError("the password is 1234")

    async with talking(mine.connect) as talk:
        assert text(refused := await talk.call("refuse")) == "not today"
        assert refused["isError"]
        assert text(await talk.call("crash")) == "internal error"
    assert "the password" in caplog.text


async def test_the_context_reaches_tools_resources_and_prompts() -> None:
    mine = server()

    @mine.tool()
    async def slow(steps: int, context: Context) -> str:
        for step in range(steps):
            await context.progress(step, steps, f"step {step}")
        await context.log("warning", {"steps": steps})
        return context.peer.address

    @mine.resource("who://am/{who}")
    def who(who: str, context: Context) -> str:
        return f"{who} at {context.peer.address}"

    @mine.prompt()
    def ask(context: Context, topic: str = "weather") -> str:
        return f"{topic} for {context.peer.address}"

    async with talking(mine.connect) as talk:
        meta = {"progressToken": "t", "io.modelcontextprotocol/logLevel": "info"}
        assert text(await talk.call("slow", meta, steps=2)) == "memory"
        assert [one["params"]["progress"] for one in talk.heard if one.get("method") == "notifications/progress"] == [0, 1]
        assert (await talk.notified("notifications/message"))["data"] == {"steps": 2}
        assert (await talk.ask("resources/read", uri="who://am/I%20too"))["contents"][0]["text"] == "I too at memory"
        got = await talk.ask("prompts/get", name="ask", arguments={"topic": "heat"})
        assert got["messages"] == [{"role": "user", "content": {"type": "text", "text": "heat for memory"}}]
        (listed,) = (await talk.ask("prompts/list"))["prompts"]
        assert listed["arguments"] == [{"name": "topic"}]


async def test_a_sync_tool_does_not_hold_up_the_loop() -> None:
    mine = server()
    loop = asyncio.get_running_loop()
    waited = asyncio.Event()

    @mine.tool()
    def wait() -> str:
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(waited.wait(), 30), loop).result(30)
        return "done"

    @mine.tool()
    async def go() -> str:
        waited.set()
        return "went"

    async with talking(mine.connect) as talk:
        _, waiting = await talk.begin("tools/call", name="wait", arguments={})
        assert text(await talk.call("go")) == "went"
        assert text((await asyncio.wait_for(waiting, 30))["result"]) == "done"


async def test_what_is_added_while_serving_is_told_and_listed() -> None:
    mine = server()

    @mine.tool()
    def grow() -> str:
        """From a thread of its own."""
        mine.tool("new")(lambda: "new")
        mine.resource("new://thing")(lambda: "thing")
        mine.prompt("new")(lambda: "prompt")
        return "grown"

    async with talking(mine.connect) as modern, talking(mine.connect, LEGACY) as legacy:
        await modern.begin("subscriptions/listen", notifications={"toolsListChanged": True, "promptsListChanged": True})
        await modern.notified("notifications/subscriptions/acknowledged")
        assert text(await legacy.call("grow")) == "grown"
        for method in ("tools", "prompts", "resources"):
            await legacy.notified(f"notifications/{method}/list_changed")
        await modern.notified("notifications/prompts/list_changed")
        assert "notifications/resources/list_changed" not in modern.methods()
        assert [tool["name"] for tool in (await modern.ask("tools/list"))["tools"]] == ["grow", "new"]
        mine.remove_tool("new")
        mine.remove_resource("new://thing")
        mine.remove_prompt("new")
        assert [tool["name"] for tool in (await modern.ask("tools/list"))["tools"]] == ["grow"]
        assert (await modern.ask("resources/list"))["resources"] == (await modern.ask("prompts/list"))["prompts"] == []


async def test_an_updated_resource_is_told_to_who_subscribed() -> None:
    mine = server()
    mine.resource("test://a")(lambda: "a")
    async with talking(mine.connect, LEGACY) as talk:
        await talk.ask("resources/subscribe", uri="test://a")
        mine.updated("test://b")
        mine.updated("test://a")
        assert await talk.notified("notifications/resources/updated") == {"uri": "test://a"}


async def test_completions_are_asked_of_their_function() -> None:
    mine = server()
    mine.prompt("p")(_prompt)
    mine.resource("r://{city}")(_city)
    mine.completion("p", "city")(lambda value, known: [city for city in ("Paris", "Parma", "Rome") if city.startswith(value)])

    @mine.completion("r://{city}", "city")
    async def complete(value: str, known: dict[str, str]) -> list[str]:
        return [value + known.get("x", "!")]

    async with talking(mine.connect) as talk:
        prompt = {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "city", "value": "Par"}}
        completed = (await talk.ask("completion/complete", **prompt))["completion"]
        assert completed == {"values": ["Paris", "Parma"], "total": 2, "hasMore": False}
        template = {"ref": {"type": "ref/resource", "uri": "r://{city}"}, "argument": {"name": "city", "value": "R"}}
        completed = (await talk.ask("completion/complete", context={"arguments": {"x": "?"}}, **template))["completion"]
        assert completed["values"] == ["R?"]
        other = {"ref": {"type": "ref/prompt", "name": "none"}, "argument": {"name": "city", "value": ""}}
        assert (await talk.ask("completion/complete", **other))["completion"]["values"] == []


def _prompt(city: str) -> str:
    return city


def _city(city: str) -> str:
    return city


def _register(decorator: Any, function: Any) -> None:
    decorator(function)


@pytest.mark.parametrize(
    ("register", "said"),
    [
        (lambda mine: mine.tool(_prompt), "parentheses"),
        (lambda mine: mine.prompt(_prompt), "parentheses"),
        (lambda mine: mine.tool("two words")(_prompt), "named"),
        (lambda mine: [mine.tool("a")(_prompt), mine.tool("a")(_prompt)], "already"),
        (lambda mine: [mine.prompt("a")(_prompt), mine.prompt("a")(_prompt)], "already"),
        (lambda mine: [mine.resource("a://b")(_nothing), mine.resource("a://b")(_nothing)], "already"),
        (lambda mine: mine.resource("a://{b}")(_city), "variables"),
        (lambda mine: mine.tool("a")(lambda *values: ""), "by name"),
        (lambda mine: mine.tool("x")(max), "the parameters of max cannot be read"),
        (lambda mine: mine.tool("x")(dict), "the parameters of dict cannot be read"),
        (lambda mine: mine.tool("x")(lambda __x: ""), "cannot take its parameters"),
        (lambda mine: mine.completion("a", "b")(_complete), "no prompt"),
        (lambda mine: mine.completion("a://{b}", "b")(_complete), "no template"),
        (lambda mine: mine.remove_tool("a"), "no tool"),
        (lambda mine: mine.remove_resource("a://b"), "no resource"),
        (lambda mine: mine.remove_prompt("a"), "no prompt"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(register: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        register(server())


def _complete(value: str, known: Any) -> list[str]:
    return []


def test_names_of_the_models_and_of_the_device_are_refused() -> None:
    mine = Server(models=ROOT / "models")
    for register in (
        mine.tool("detect_objects"),
        mine.tool("device_status"),
        mine.prompt("check_device"),
        mine.resource("device://status"),
    ):
        with pytest.raises(ConfigError, match="already"):
            register(_nothing)
    with pytest.raises(ConfigError, match="already"):
        mine.resource("model://{city}")(_city)


def _nothing() -> str:
    return ""


async def test_the_models_are_served_beside_ones_own() -> None:
    mine = Server(models=[ROOT / "models"])
    mine.tool("hello")(_nothing)
    async with talking(mine.connect) as talk:
        names = [tool["name"] for tool in (await talk.ask("tools/list"))["tools"]]
        assert {"detect_objects", "hello"} <= set(names)
        assert names[-1] == "hello"


def test_the_example_of_the_readme_runs_over_stdio() -> None:
    readme = (ROOT / "README.md").read_text("utf-8").split("## Your own tools in Python", 1)[1]
    example = readme.split("```python\n", 1)[1].split("```", 1)[0]
    call = msgspec.json.encode(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "average",
                "arguments": {"values": [1, 2, 6]},
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        }
    )
    done = subprocess.run([sys.executable, "-c", example], input=call + b"\n", capture_output=True, cwd=ROOT, timeout=60)
    assert msgspec.json.decode(done.stdout)["result"]["structuredContent"]["mean"] == 3, done.stderr


HANGING = """
import sys, threading
from edge_mcp import Server

server = Server(models=False)


@server.tool()
def hang() -> str:
    print("hangs", file=sys.stderr, flush=True)
    threading.Event().wait()
    return ""


server.run(stdio=True)
"""


def test_a_tool_that_hangs_does_not_keep_the_server_alive() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hang", "arguments": {}, "_meta": meta}}
    with subprocess.Popen(
        [sys.executable, "-c", HANGING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(msgspec.json.encode(call) + b"\n")
        process.stdin.flush()
        assert process.stderr.readline() == b"hangs\n"
        process.terminate()
        assert process.wait(8) == 0


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_tool_that_raises_what_is_no_exception_is_answered(version: str) -> None:
    mine = server()

    @mine.tool()
    async def ends(kind: str) -> str:
        if kind == "cancelled":
            inner = asyncio.ensure_future(asyncio.sleep(60))
            inner.cancel()
            await inner
        raise {"exit": SystemExit, "close": GeneratorExit, "key": KeyboardInterrupt, "base": BaseException}[kind]("no")

    async with talking(mine.connect, version) as talk:
        for kind in ("cancelled", "exit", "close", "key", "base"):
            result = await talk.call("ends", kind=kind)
            assert (result["isError"], text(result)) == (True, "internal error"), kind


async def test_a_question_is_not_swallowed() -> None:
    mine = server()

    @mine.tool()
    async def asks(context: Context) -> str:
        try:
            await context.elicit("Name?", {"type": "object", "properties": {}})
        except Exception:  # noqa: BLE001
            return "swallowed"
        return "answered"

    async with talking(mine.connect, MODERN, {"elicitation": {}}) as talk:
        assert (await talk.call("asks"))["resultType"] == "input_required"


def test_a_tool_may_be_added_after_the_serving_ended() -> None:
    mine = server()

    async def serve() -> None:
        async with talking(mine.connect, MODERN):
            pass

    asyncio.run(serve())
    mine.tool()(_nothing)
    mine.remove_tool("_nothing")


async def test_a_completion_that_exits_does_not_end_the_server() -> None:
    mine = server()
    mine.prompt("p")(_prompt)

    @mine.completion("p", "city")
    def leave(value: str, known: Any) -> list[str]:
        sys.exit(value)

    async with talking(mine.connect, MODERN) as talk:
        ref = {"type": "ref/prompt", "name": "p"}
        error = await talk.fail("completion/complete", ref=ref, argument={"name": "city", "value": "x"})
        assert error["message"] == "internal error"
