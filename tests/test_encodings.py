"""What is written in Python is the same to clients of JSON and of MessagePack, and neither sees the other's bytes."""

import asyncio
import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp import Audio, Context, EmbeddedResource, Image, PromptMessage, Server
from edge_mcp.errors import ArgumentError
from edge_mcp.functions import Function
from edge_mcp.protocol.codec import JSON, Arguments
from edge_mcp.protocol.messagepack import MSGPACK
from edge_mcp.protocol.messages import ToolResult
from tests.packing import as_json
from tests.talk import LEGACY, MODERN, TASKS, talking

BYTES = b"\x00\xff\x89PNG"
TEXT = base64.b64encode(BYTES).decode()


class Colour(Enum):
    RED = "red"


@dataclass
class Part:
    name: str
    data: bytes = b""
    sizes: tuple[int, ...] = ()


@dataclass
class Found:
    part: Part
    at: datetime
    score: float
    by: dict[int, float]


def everything() -> Server:
    server = Server("both", "1.0")
    for part in (_taking, _answering, _telling):
        part(server)
    return server


def _taking(server: Server) -> None:
    @server.tool()
    def take(
        data: bytes,
        part: Part,
        anything: Any,
        at: datetime,
        colour: Colour,
        amount: Decimal,
        known: UUID,
        by: dict[int, float],
        ratio: float = 0.5,
        parts: list[Part] | None = None,
    ) -> str:
        return repr((data, part, anything, at, colour, amount, known, sorted(by.items()), ratio, parts))

    @server.tool()
    def rest(**values: Any) -> str:
        return repr(sorted(values.items()))

    @server.tool(task="required")
    async def later(data: bytes) -> Part:
        await asyncio.sleep(0)
        return Part("later", data)


def _answering(server: Server) -> None:
    @server.tool()
    def find() -> Found:
        return Found(Part("a", BYTES, (1, 2)), datetime(2026, 1, 2, tzinfo=UTC), 0.25, {1: 0.5})

    @server.tool()
    def loose() -> dict[str, Any]:
        return {"data": BYTES, "when": datetime(2026, 1, 2, tzinfo=UTC), "nan": float("inf"), "large": 2**70}

    @server.tool()
    def listed() -> Any:
        return [1, {"data": BYTES}]

    @server.tool()
    def blocks() -> list[Any]:
        return ["hi", Image(BYTES), Audio(BYTES), EmbeddedResource("test://it", BYTES)]

    @server.tool()
    def ready() -> ToolResult:
        return ToolResult([{"type": "image", "data": BYTES, "mimeType": "image/png"}], {"ok": True}, meta={"x": BYTES})


def _telling(server: Server) -> None:
    @server.tool()
    async def ask(context: Context) -> str:
        said = await context.sample([{"role": "user", "content": {"type": "image", "data": TEXT}}], 5)
        return repr(said["content"])

    @server.tool()
    async def tell(context: Context) -> str:
        await context.log("info", {"data": BYTES, "at": datetime(2026, 1, 2, tzinfo=UTC)})
        await context.progress(1, 2, "half")
        return "told"

    @server.resource("test://bytes")
    def held() -> bytes:
        return BYTES

    @server.prompt()
    def look() -> list[Any]:
        return [Image(BYTES), PromptMessage("assistant", {"type": "text", "text": "nice"})]


ARGUMENTS: dict[str, Any] = {
    "data": BYTES,
    "part": {"name": "p", "data": BYTES, "sizes": [1, 2]},
    "anything": {"nested": [BYTES, 1.5, None]},
    "at": "2026-01-02T03:04:05Z",
    "colour": "red",
    "amount": "1.50",
    "known": "12345678-1234-5678-1234-567812345678",
    "by": {"7": 1, "8": 0.25},
    "parts": [{"name": "q"}],
}


async def answers(version: str, encoding: str) -> Any:
    """All that one client hears, as JSON."""
    said = BYTES if encoding == "msgpack" else TEXT

    def sent(value: Any) -> Any:
        return value if encoding == "msgpack" else as_json(value)

    heard: dict[str, Any] = {}
    answer = {"role": "assistant", "model": "m", "content": {"type": "image", "data": said, "mimeType": "image/png"}}
    able = {"sampling": {}, **TASKS}
    async with talking(everything().connect, version, able, encoding=encoding) as talk:
        talk.answers["sampling/createMessage"] = lambda params: answer
        heard["take"] = await talk.call("take", **sent(ARGUMENTS))
        heard["rest"] = await talk.call("rest", **sent({"a": BYTES, "b": [1]}))
        for name in ("find", "loose", "listed", "blocks", "ready"):
            heard[name] = await talk.call(name)
        meta = {"progressToken": "t", "io.modelcontextprotocol/logLevel": "debug"}
        heard["tell"] = await talk.call("tell", meta)
        heard["progress"] = await talk.notified("notifications/progress")
        heard["message"] = await talk.notified("notifications/message")
        heard["read"] = await talk.ask("resources/read", uri="test://bytes")
        heard["prompt"] = await talk.ask("prompts/get", name="look")
        heard["tools"] = await talk.ask("tools/list")
        asked = await talk.call("ask")
        if version == MODERN:
            assert asked["inputRequests"]["sample"]["params"]["messages"][0]["content"]["data"] == TEXT
            more = {"inputResponses": {"sample": answer}, "requestState": asked["requestState"]}
            asked = await talk.ask("tools/call", name="ask", arguments={}, **more)
            task = (await talk.call("later", data=said))["taskId"]
            heard["task"] = (await talk.state(task, "completed"))["result"]
        heard["asked"] = asked
        heard["wrong"] = await talk.call("take", data=1)
    if encoding == "msgpack":
        assert heard["read"]["contents"][0]["blob"] == BYTES
        assert [block.get("data") for block in heard["blocks"]["content"][1:3]] == [BYTES, BYTES]
        assert heard["find"]["structuredContent"]["part"]["data"] == BYTES
        assert heard["prompt"]["messages"][0]["content"]["data"] == BYTES
    return as_json(heard)


def readable(heard: Any) -> Any:
    """Without what is known to differ: JSON in texts leaves bytes out in MessagePack, which has no integers of 71 bits."""
    for name in ("find", "loose", "listed", "task"):
        if name in heard:
            (block,) = heard[name]["content"]
            block["text"] = block["text"].replace(TEXT, f"{len(BYTES)} bytes").replace(str(2**70), "1.1805916207174113e21")
    loose = heard["loose"]["structuredContent"]
    loose["large"] = float(loose["large"])
    return heard


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_client_hears_the_same_in_both(version: str) -> None:
    ours, theirs = readable(await answers(version, "msgpack")), readable(await answers(version, "json"))
    for name in theirs:
        assert ours[name] == theirs[name], name
    assert "isError" in theirs["wrong"]


async def test_a_task_is_fetched_by_a_client_of_the_other_encoding() -> None:
    server = everything()
    for began, fetches in (("json", "msgpack"), ("msgpack", "json")):
        async with (
            talking(server.connect, MODERN, TASKS, "me", began) as first,
            talking(server.connect, MODERN, TASKS, "me", fetches) as second,
        ):
            task = (await first.call("later", data=BYTES if began == "msgpack" else TEXT))["taskId"]
            await second.begin("subscriptions/listen", notifications={"taskIds": [task]})
            state = await second.state(task, "completed")
            assert as_json(state["result"]["structuredContent"]) == {"name": "later", "data": TEXT, "sizes": []}
            assert (await first.state(task, "completed"))["status"] == "completed"


VALUES: dict[str, tuple[Any, Callable[[], st.SearchStrategy[Any]]]] = {
    "int": (int, lambda: st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()),
    "float": (float, lambda: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)),
    "text": (str, lambda: st.text() | st.none()),
    "optional": (int | None, lambda: st.none() | st.integers(0, 9) | st.booleans()),
    "union": (int | str | list[bool] | None, lambda: st.integers(0, 9) | st.text() | st.lists(st.booleans())),
    "keys": (dict[int, str], lambda: st.dictionaries(st.integers(0, 99).map(str) | st.text(), st.text())),
    "set": (set[str], lambda: st.lists(st.text())),
    "tuple": (tuple[int, float], lambda: st.lists(st.integers(0, 9), max_size=3)),
    "decimal": (Decimal, lambda: st.decimals(allow_nan=False).map(str) | st.floats(allow_nan=False, allow_infinity=False)),
    "time": (datetime, lambda: st.datetimes().map(datetime.isoformat) | st.text()),
    "bytes": (bytes, lambda: st.binary().map(lambda data: base64.b64encode(data).decode()) | st.text()),
    "part": (Part, lambda: st.fixed_dictionaries({"name": st.text()}, optional={"sizes": st.lists(st.integers(0, 9))})),
    "any": (Any, lambda: st.lists(st.text() | st.none() | st.integers(-5, 2**60) | st.booleans())),
}


def arguments_of(function: Function, sent: Arguments) -> Any:
    try:
        return function.decode(sent)
    except ArgumentError as error:
        return re.sub(r", got \d+", "", str(error).replace("`None`", "`null`"))  # msgspec's words differ


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_function_takes_the_same_from_both(name: str, data: st.DataObject) -> None:
    kind, values = VALUES[name]

    def take(x: Any) -> None: ...

    take.__annotations__["x"] = kind
    function = Function(take)
    value = {"x": data.draw(values())}
    try:
        text = JSON.encode(value)
    except UnicodeEncodeError:
        return
    assert arguments_of(function, Arguments(MSGPACK.encode(value), MSGPACK)) == arguments_of(function, Arguments(text))


def test_bytes_for_a_parameter_that_takes_them_need_no_base64() -> None:
    def take(x: bytes) -> None: ...

    assert Function(take).decode(Arguments(MSGPACK.encode({"x": BYTES}), MSGPACK)) == {"x": BYTES}

    def other(x: str) -> None: ...

    assert Function(other).decode(Arguments(MSGPACK.encode({"x": BYTES}), MSGPACK)) == {"x": TEXT}
