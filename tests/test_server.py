"""What each MCP method does, in both eras, over the in-memory transport."""

import asyncio
from typing import Any

import pytest

from edge_mcp import Context, Server
from edge_mcp.app import App
from edge_mcp.changes import TOOLS
from edge_mcp.context import Question
from edge_mcp.prompts.functions import FunctionPrompt, FunctionPrompts
from edge_mcp.protocol.messages import Implementation
from edge_mcp.protocol.request_state import TTL_S
from edge_mcp.resources.functions import FunctionResource, FunctionResources
from edge_mcp.server import Server as Core
from edge_mcp.tools.functions import FunctionTool, FunctionTools
from edge_mcp.transports.memory import MemoryConnection, pair
from tests.talk import LEGACY, LIMIT_S, MODERN, TASKS, Talk, talking
from tests.transports.virtual import run

BOTH = pytest.mark.parametrize("version", [LEGACY, MODERN])
ASKING: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def text(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def core(page: int = 200, clock: Clock | None = None) -> Core:
    """Three tools, resources and prompts, and a tool that asks."""
    tools, resources, prompts = FunctionTools(), FunctionResources(), FunctionPrompts()
    for name in ("a", "b", "c"):
        tools.add(FunctionTool(lambda: "done", name))
        resources.add(FunctionResource(lambda: "held", f"test://{name}"))
        prompts.add(FunctionPrompt(lambda: "said", name))
    resources.add(FunctionResource(_page, "page://{number}"))
    tools.add(FunctionTool(meet))
    tools.add(FunctionTool(everything))
    tools.add(FunctionTool(wait))
    prompts.add(FunctionPrompt(greet))
    return Core(Implementation("test", "1"), tools, resources, prompts, "Do it.", page, clock or Clock())


def _page(number: int) -> str | None:
    return f"page {number}" if number < 10 else None


async def meet(context: Context) -> str:
    """Asks twice, one after the other."""
    name = (await context.elicit("Name?", NAME, key="name"))["content"]["name"]
    wish = await context.elicit(f"What does {name} want?", {"type": "object", "properties": {}}, key="wish")
    return f"{name} {wish['action']}s"


async def everything(context: Context) -> str:
    """Asks all there is at once."""
    answers = await context.ask(
        {
            "name": Question("elicitation/create", {"message": "Name?", "requestedSchema": NAME}),
            "rhyme": Question("sampling/createMessage", {"messages": [], "maxTokens": 5}),
            "roots": Question("roots/list", {}),
        }
    )
    return ",".join(sorted(answers))


async def wait(context: Context) -> str:
    """Never ends by itself."""
    await context.progress(0)
    await asyncio.get_running_loop().create_future()
    return ""


async def greet(context: Context) -> str:
    """Asks for a name."""
    return f"Hello, {(await context.elicit('Name?', NAME))['content']['name']}"


# Lists


@BOTH
@pytest.mark.parametrize(
    ("method", "name"), [("tools/list", "tools"), ("resources/list", "resources"), ("prompts/list", "prompts")]
)
async def test_a_list_comes_in_pages(version: str, method: str, name: str) -> None:
    async with talking(core(page=2).serve, version) as talk:
        whole = (await talk.ask(method))[name]
        assert len(whole) == 2
        seen: list[Any] = []
        more: dict[str, Any] = {}
        for _ in range(5):
            page = await talk.ask(method, **more)
            seen += page[name]
            if "nextCursor" not in page:
                break
            more = {"cursor": page["nextCursor"]}
        names = [one.get("uri") or one["name"] for one in seen]
        assert len(names) == len(set(names)) >= 3
        assert (page.get("ttlMs"), page.get("cacheScope")) == ((300_000, "public") if version == MODERN else (None, None))


@BOTH
@pytest.mark.parametrize("cursor", ["", "x", "LTE=", "OTk=", "MTA=-", "é", "MA==MA=="])
async def test_a_cursor_of_ones_own_making_is_refused(version: str, cursor: str) -> None:
    async with talking(core(page=2).serve, version) as talk:
        error = await talk.fail("tools/list", cursor=cursor)
        assert error["code"] == -32602
        assert "cursor" in error["message"]


# Resources


@BOTH
async def test_resources_are_listed_and_read(version: str) -> None:
    async with talking(core().serve, version) as talk:
        assert [one["uri"] for one in (await talk.ask("resources/list"))["resources"]] == ["test://a", "test://b", "test://c"]
        (template,) = (await talk.ask("resources/templates/list"))["resourceTemplates"]
        assert template["uriTemplate"] == "page://{number}"
        read = await talk.ask("resources/read", uri="page://7")
        assert read["contents"] == [{"uri": "page://7", "mimeType": "text/plain", "text": "page 7"}]
        assert ("ttlMs" in read) == (version == MODERN)


@pytest.mark.parametrize(("version", "code"), [(LEGACY, -32002), (MODERN, -32602)])
@pytest.mark.parametrize("uri", ["test://none", "page://11", "page://1/2", "page://", ""])
async def test_a_resource_that_is_not_there_is_an_error_of_its_era(version: str, code: int, uri: str) -> None:
    async with talking(core().serve, version) as talk:
        error = await talk.fail("resources/read", uri=uri)
        assert error["code"] == code
        assert error["data"] == {"uri": uri}


async def test_a_legacy_client_hears_of_the_resources_that_it_subscribed_to() -> None:
    mine = Server("test", models=False)
    mine.resource("test://a")(lambda: "a")
    async with talking(mine.connect, LEGACY) as talk:
        await talk.ask("resources/subscribe", uri="test://a")
        await talk.ask("resources/subscribe", uri="test://b")
        await talk.ask("resources/unsubscribe", uri="test://b")
        mine.updated("test://b")
        mine.updated("test://a")
        await talk.notified("notifications/resources/updated")
        assert talk.methods() == ["notifications/resources/updated"]


async def test_subscriptions_belong_to_the_old_era_and_listening_to_the_new() -> None:
    async with talking(core().serve) as modern, talking(core().serve, LEGACY) as legacy:
        for method in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel", "ping", "initialize"):
            assert (await modern.fail(method, uri="test://a"))["code"] in (-32601, -32602, -32022)
        for method in ("subscriptions/listen", "server/discover", "tasks/get", "tasks/list"):
            assert (await legacy.fail(method, notifications={}, taskId="x"))["code"] == -32601


async def test_a_listen_stream_hears_what_it_asked_for_with_its_id() -> None:
    mine = core()
    async with talking(mine.serve) as talk:
        number, ended = await talk.begin(
            "subscriptions/listen", notifications={"toolsListChanged": True, "taskIds": ["foreign"]}
        )
        acknowledged = await talk.notified("notifications/subscriptions/acknowledged")
        assert acknowledged["notifications"] == {"toolsListChanged": True}
        assert acknowledged["_meta"] == {"io.modelcontextprotocol/subscriptionId": number}
        mine.changes.tell(TOOLS)
        heard = await talk.notified("notifications/tools/list_changed")
        assert heard["_meta"] == {"io.modelcontextprotocol/subscriptionId": number}
        await mine.drain(1)
        result = (await asyncio.wait_for(ended, LIMIT_S))["result"]
        assert result["_meta"]["io.modelcontextprotocol/subscriptionId"] == number


async def test_a_peer_that_does_not_read_does_not_hold_up_the_end() -> None:
    mine = core()
    theirs, ours = pair()
    async with talking(mine.serve) as talk:
        number, ended = await talk.begin("subscriptions/listen", notifications={"toolsListChanged": True})
        await talk.notified("notifications/subscriptions/acknowledged")
        serving = asyncio.create_task(mine.serve(theirs))
        deaf = Talk(ours, MODERN, {})
        for _ in range(40):
            await deaf.begin("subscriptions/listen", notifications={})
        await talk.call("a")
        await asyncio.wait_for(mine.drain(0.1), LIMIT_S)
        result = (await asyncio.wait_for(ended, LIMIT_S))["result"]
        assert result["_meta"]["io.modelcontextprotocol/subscriptionId"] == number
        await asyncio.wait_for(serving, LIMIT_S)


async def test_peers_that_do_not_say_good_bye_are_left_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(MemoryConnection):
        async def close(self, reason: str = "") -> None:
            await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("edge_mcp.server.CLOSE_S", 0.02)
    mine = core()
    serving = []
    for _ in range(3):
        theirs, ours = pair()
        theirs.__class__ = Stubborn
        serving.append((asyncio.create_task(mine.serve(theirs)), ours))
    async with talking(mine.serve) as talk:
        await talk.call("a")
        await asyncio.wait_for(mine.drain(0), LIMIT_S)
    for task, ours in serving:
        await ours.close()
        await asyncio.wait_for(task, LIMIT_S)


async def test_a_listen_stream_that_is_cancelled_hears_no_more_and_is_not_answered() -> None:
    mine = core()
    async with talking(mine.serve) as talk:
        number, _ = await talk.begin("subscriptions/listen", notifications={"toolsListChanged": True})
        await talk.notified("notifications/subscriptions/acknowledged")
        await talk.send({"method": "notifications/cancelled", "params": {"requestId": number}})
        await talk.call("a")
        mine.changes.tell(TOOLS)
        await talk.call("a")
        assert talk.methods() == ["notifications/subscriptions/acknowledged"]


# Prompts and completion


@BOTH
async def test_a_prompt_is_got_with_its_arguments(version: str) -> None:
    async with talking(core().serve, version) as talk:
        got = await talk.ask("prompts/get", name="a")
        assert got["messages"] == [{"role": "user", "content": {"type": "text", "text": "said"}}]
        assert (await talk.fail("prompts/get", name="none"))["code"] == -32602
        assert (await talk.fail("prompts/get", name="a", arguments={"x": "1"}))["code"] == -32602
        assert (await talk.fail("prompts/get", name="a", arguments={"x": 1}))["code"] == -32602


async def test_a_completion_shows_a_hundred_at_most() -> None:
    mine = Server("test", models=False)
    mine.resource("page://{number}")(_page)
    mine.completion("page://{number}", "number")(lambda value, known: [str(number) for number in range(250)])
    async with talking(mine.connect) as talk:
        ref = {"type": "ref/resource", "uri": "page://{number}"}
        completed = (await talk.ask("completion/complete", ref=ref, argument={"name": "number", "value": ""}))["completion"]
        assert (len(completed["values"]), completed["total"], completed["hasMore"]) == (100, 250, True)


# Logging


async def test_a_legacy_client_sets_the_level_of_its_session() -> None:
    mine = Server("test", models=False)

    @mine.tool()
    async def log(context: Context) -> str:
        for level in ("debug", "warning", "error"):
            await context.log(level, level)
        return ""

    async def heard(talk: Talk) -> list[str]:
        await talk.call("log")
        messages = [one["params"]["data"] for one in talk.heard if one.get("method") == "notifications/message"]
        talk.heard.clear()
        return messages

    async with talking(mine.connect, LEGACY) as talk:
        assert await heard(talk) == ["warning", "error"]
        await talk.ask("logging/setLevel", level="error")
        assert await heard(talk) == ["error"]
        await talk.ask("logging/setLevel", level="debug")
        assert await heard(talk) == ["debug", "warning", "error"]
        assert (await talk.fail("logging/setLevel", level="loud"))["code"] == -32602
    async with talking(mine.connect) as talk:
        assert await heard(talk) == []
        await talk.call("log", {"io.modelcontextprotocol/logLevel": "error"})
        assert talk.methods() == ["notifications/message"]
        loud = {"io.modelcontextprotocol/logLevel": "loud"}
        assert (await talk.fail("tools/call", loud, name="log", arguments={}))["code"] == -32602


# Questions


async def test_a_legacy_client_is_asked_by_requests() -> None:
    async with talking(core().serve, LEGACY, ASKING) as talk:
        talk.answers["elicitation/create"] = lambda params: accepted(name="Ada") if params["message"] == "Name?" else accepted()
        talk.answers["sampling/createMessage"] = lambda params: {"role": "assistant", "content": {"type": "text", "text": "x"}}
        talk.answers["roots/list"] = lambda params: {"roots": []}
        assert text(await talk.call("meet")) == "Ada accepts"
        assert text(await talk.call("everything")) == "name,rhyme,roots"
        assert (await talk.ask("prompts/get", name="greet"))["messages"][0]["content"]["text"] == "Hello, Ada"
        talk.answers["elicitation/create"] = lambda params: {"code": -1, "message": "no window"}
        failed = await talk.call("meet")
        assert failed["isError"]
        assert "no window" in text(failed)


@BOTH
async def test_a_client_is_asked_only_what_it_can_answer(version: str) -> None:
    async with talking(core().serve, version) as talk:
        error = await talk.fail("tools/call", name="meet", arguments={})
        assert error["code"] == -32021
        assert error["data"] == {"requiredCapabilities": {"elicitation": {}}}
    async with talking(core().serve, version, {"roots": {}}) as talk:
        talk.answers["roots/list"] = lambda params: {"roots": []}
        if version == LEGACY:
            assert text(await talk.call("everything")) == "roots"
        else:
            assert list((await talk.call("everything"))["inputRequests"]) == ["roots"]


async def test_a_legacy_question_is_withdrawn_with_its_call_and_a_wrong_answer_is_told() -> None:
    async with talking(core().serve, LEGACY, ASKING) as talk:
        talk.answers["elicitation/create"] = lambda params: {"action": "perhaps"}
        failed = await talk.call("meet")
        assert failed["isError"]
        assert "elicitation/create" in text(failed)
        del talk.answers["elicitation/create"]
        number, _ = await talk.begin("tools/call", name="meet", arguments={})
        asked = await talk.hears(lambda one: one.get("method") == "elicitation/create" and one["id"] == 2)
        await talk.send({"method": "notifications/cancelled", "params": {"requestId": number}})
        assert (await talk.notified("notifications/cancelled"))["requestId"] == asked["id"]
        await talk.send({"id": asked["id"], "result": accepted(name="late")})
        assert text(await talk.call("a")) == "done"


@BOTH
@pytest.mark.parametrize(
    ("declared", "able"), [({}, True), ({"form": {}}, True), ({"url": {}}, False), ({"form": {}, "url": {}}, True)]
)
async def test_a_form_is_for_clients_that_know_forms(version: str, declared: dict[str, Any], able: bool) -> None:
    async with talking(core().serve, version, {"elicitation": declared}) as talk:
        talk.answers["elicitation/create"] = lambda params: accepted(name="Ada")
        whole = await talk.whole("tools/call", name="meet", arguments={})
        assert ("result" in whole) == able
        assert able or whole["error"]["code"] == -32021


async def test_a_modern_client_is_asked_by_results_one_round_after_the_other() -> None:
    async with talking(core().serve, capabilities=ASKING) as talk:
        first = await talk.call("meet")
        assert first["resultType"] == "input_required"
        assert "ttlMs" not in first
        asked = first["inputRequests"]["name"]
        assert (asked["method"], asked["params"]["message"]) == ("elicitation/create", "Name?")
        call: dict[str, Any] = {"name": "meet", "arguments": {}}
        again = await talk.ask(
            "tools/call", **call, inputResponses={"name": accepted(name="Ada")}, requestState=first["requestState"]
        )
        assert list(again["inputRequests"]) == ["wish"]
        assert again["requestState"] != first["requestState"]
        done = await talk.ask("tools/call", **call, inputResponses={"wish": accepted()}, requestState=again["requestState"])
        assert text(done) == "Ada accepts"
        prompt = await talk.ask("prompts/get", name="greet")
        got = await talk.ask("prompts/get", name="greet", inputResponses={"input": accepted(name="Bo")})
        assert prompt["resultType"] == "input_required"
        assert got["messages"][0]["content"]["text"] == "Hello, Bo"


@pytest.mark.parametrize(
    "wrong", [accepted(), accepted(nome="x"), {"action": "perhaps"}, {}, {"action": "accept", "content": []}]
)
async def test_what_is_no_answer_is_asked_again(wrong: dict[str, Any]) -> None:
    async with talking(core().serve, capabilities=ASKING) as talk:
        answers = {"name": wrong, "other": accepted()}
        asked = await talk.ask("tools/call", name="meet", arguments={}, inputResponses=answers)
        assert list(asked["inputRequests"]) == ["name"]
    unreadable: list[Any] = [None, {"name": 5}, []]
    for responses in unreadable:
        async with talking(core().serve, capabilities=ASKING) as talk:
            error = await talk.fail("tools/call", name="meet", arguments={}, inputResponses=responses)
            assert error["code"] == -32602


async def test_a_state_that_is_not_this_calls_is_refused() -> None:
    clock = Clock()
    mine = core(clock=clock)
    async with talking(mine.serve, capabilities=ASKING, principal="ada") as talk:
        state = (await talk.call("meet"))["requestState"]
        answers = {"name": accepted(name="Ada")}
        middle = len(state) // 2
        flipped = state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :]
        for forged in (state + "-TAMPERED", state + "=", flipped, "", "é", state[:20]):
            error = await talk.fail("tools/call", name="meet", arguments={}, inputResponses=answers, requestState=forged)
            assert error["code"] == -32602
            assert "requestState" in error["message"]
        others: list[dict[str, Any]] = [{"name": "everything", "arguments": {}}, {"name": "meet", "arguments": {"x": 1}}]
        for foreign in others:
            error = await talk.fail("tools/call", **foreign, inputResponses=answers, requestState=state)
            assert "another request" in error["message"]
        async with talking(mine.serve, capabilities=ASKING, principal="bob") as other:
            error = await other.fail("tools/call", name="meet", arguments={}, inputResponses=answers, requestState=state)
            assert "another request" in error["message"]
        clock.now += TTL_S + 1
        error = await talk.fail("tools/call", name="meet", arguments={}, inputResponses=answers, requestState=state)
        assert "too old" in error["message"]


# Batches


async def test_a_batch_is_answered_whole_where_its_revision_has_batches() -> None:
    async with talking(core().serve, "2025-03-26") as talk:
        calls: list[dict[str, Any]] = [
            {"id": name, "method": "tools/call", "params": {"name": name, "arguments": {}}} for name in ("a", "b")
        ]
        await talk.send([*calls, {"id": "p", "method": "ping"}, {"method": "notifications/initialized"}])
        for name in ("a", "b", "p"):
            assert "result" in await talk.hears(lambda one, name=name: one.get("id") == name)  # type: ignore[misc]
    async with talking(core().serve, LEGACY) as talk:
        await talk.send(calls)
        assert (await talk.hears(lambda one: "error" in one))["error"]["code"] == -32600


async def test_a_batch_whose_last_open_call_is_cancelled_is_answered_without_it() -> None:
    async with talking(core().serve, "2025-03-26") as talk:
        stuck = {"id": "w", "method": "tools/call", "params": {"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}}}
        await talk.send([{"id": "a", "method": "tools/call", "params": {"name": "a", "arguments": {}}}, stuck])
        await talk.notified("notifications/progress")
        await talk.send({"method": "notifications/cancelled", "params": {"requestId": "w"}})
        assert text((await talk.hears(lambda one: one.get("id") == "a"))["result"]) == "done"
        assert not [one for one in talk.heard if one.get("id") == "w"]


def test_the_commands_server_has_every_capability() -> None:
    from edge_mcp.config import Config

    assert set(App(Config(), None).server.about.capabilities) == {"tools", "logging", "resources", "prompts", "completions"}


def test_a_server_is_quiet_when_nobody_was_connected_for_long_and_no_task_is_kept() -> None:
    async def main() -> None:
        tools = FunctionTools()
        tools.add(FunctionTool(lambda: "done", "late", task="required"))
        server = Core(Implementation("test", "1"), tools)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await server.quiet(100)
        assert loop.time() - began == 100
        quiet = asyncio.create_task(server.quiet(100))
        await asyncio.sleep(10)
        mine, its = pair()
        serving = asyncio.create_task(server.serve(its))
        await asyncio.sleep(240)
        assert not quiet.done()
        await mine.close()
        await serving
        left = loop.time()
        await quiet
        assert 100 <= loop.time() - left <= 200
        quiet = asyncio.create_task(server.quiet(100))
        async with talking(server.serve, MODERN, TASKS) as talk:
            assert (await talk.ask("tools/call", name="late", arguments={}))["resultType"] == "task"
        await asyncio.sleep(240)
        assert not quiet.done()  # its outcome may still be asked for
        await server.drain(0)
        quiet.cancel()

    run(main())
