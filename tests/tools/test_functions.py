"""What a Python function returns, as a tool's result."""

from dataclasses import dataclass
from typing import Any, TypedDict

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.content import Audio, EmbeddedResource, Image, ResourceLink
from edge_mcp.protocol.messages import ToolResult
from edge_mcp.tools.functions import FunctionTool, FunctionTools, is_structured
from edge_mcp.tools.joined import JoinedTools


class Weather(msgspec.Struct, rename="camel"):
    wind_ms: float
    place: str = "here"


@dataclass
class Pair:
    a: int
    b: int


class Typed(TypedDict):
    a: int


def tool(value: Any, returns: Any = None) -> FunctionTool:
    def answer() -> Any:
        return value

    if returns is not None:
        answer.__annotations__["return"] = returns
    return FunctionTool(answer)


async def call(made: FunctionTool) -> dict[str, Any]:
    result: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(await made.call(Arguments(), None)))  # type: ignore[arg-type]
    return result


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("hi", [{"type": "text", "text": "hi"}]),
        (None, []),
        ([], []),
        (5, [{"type": "text", "text": "5"}]),
        ([1, 2], [{"type": "text", "text": "[1,2]"}]),
        (Image(b"\x89P"), [{"type": "image", "data": "iVA=", "mimeType": "image/png"}]),
        (
            ["a", Audio(b"RIFF", "audio/mp3")],
            [{"type": "text", "text": "a"}, {"type": "audio", "data": "UklGRg==", "mimeType": "audio/mp3"}],
        ),
        (EmbeddedResource("a://b", "t"), [{"type": "resource", "resource": {"uri": "a://b", "text": "t"}}]),
        (
            EmbeddedResource("a://b", b"t", "x/y"),
            [{"type": "resource", "resource": {"uri": "a://b", "mimeType": "x/y", "blob": "dA=="}}],
        ),
        (ResourceLink("a://b", "n", title="T"), [{"type": "resource_link", "uri": "a://b", "name": "n", "title": "T"}]),
        ([{"type": "text", "text": "raw"}], [{"type": "text", "text": "raw"}]),
        (ToolResult([{"type": "text", "text": "own"}]), [{"type": "text", "text": "own"}]),
    ],
)
async def test_a_value_becomes_content(value: Any, content: list[Any]) -> None:
    assert await call(tool(value)) == {"content": content}


@pytest.mark.parametrize(
    ("value", "returns"),
    [(Weather(3), Weather), (Pair(1, 2), Pair), ({"a": 1}, Typed), ({"x": 1.5}, dict[str, float]), ({"x": [1]}, dict)],
)
async def test_an_object_is_structured_and_fits_its_schema(value: Any, returns: Any) -> None:
    made = tool(value, returns)
    schema = made.definition.outputSchema
    assert schema is not None
    assert schema["type"] == "object"
    result = await call(made)
    assert result["structuredContent"] == msgspec.to_builtins(value)
    assert msgspec.json.decode(result["content"][0]["text"]) == result["structuredContent"]
    jsonschema.validate(result["structuredContent"], schema)


async def test_an_answer_that_does_not_fit_its_schema_never_leaves(caplog: pytest.LogCaptureFixture) -> None:
    result = await call(tool({"a": "one"}, Typed))
    assert result == {"content": [{"type": "text", "text": "internal error"}], "isError": True}
    assert "Expected `int`" in caplog.text


async def test_an_object_without_a_promise_is_structured_too() -> None:
    assert (await call(tool({"a": 1})))["structuredContent"] == {"a": 1}


@pytest.mark.parametrize("kind", [str, int, None, Any, list[Pair], Image, ToolResult, Pair | None])
def test_other_returns_promise_nothing(kind: Any) -> None:
    assert not is_structured(kind)


async def test_joined_catalogues_notice_every_change() -> None:
    one, two = FunctionTools(), FunctionTools()
    joined = JoinedTools([one, two])
    one.add(FunctionTool(list_nothing, "a"))
    assert list(await joined.tools()) == ["a"]
    first = await joined.tools()
    assert await joined.tools() is first
    two.add(FunctionTool(list_nothing, "b"))
    two.add(FunctionTool(list_nothing, "a"))
    assert list(await joined.tools()) == ["a", "b"]
    assert (await joined.tools())["a"] is (await one.tools())["a"]
    one.remove("a")
    assert list(await joined.tools()) == ["b", "a"]


def list_nothing() -> list[str]:
    return []
