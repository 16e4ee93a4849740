"""Python functions as resources, and rooms of them joined."""

from typing import Any

import pytest

from edge_mcp.errors import ArgumentError, ConfigError, EdgeError
from edge_mcp.resources.base import Contents, ResourceDefinition, TemplateDefinition
from edge_mcp.resources.functions import FunctionResource, FunctionResources, template_pattern
from edge_mcp.resources.joined import JoinedResources


async def read(resources: Any, uri: str) -> Any:
    return await resources.read(uri, None)


def holding(value: Any, mime_type: str = "") -> FunctionResource:
    return FunctionResource(lambda: value, "test://it", mime_type=mime_type)


@pytest.mark.parametrize(
    ("value", "mime_type", "expected"),
    [
        ("text", "", [Contents("test://it", "text/plain", text="text")]),
        ("# hi", "text/markdown", [Contents("test://it", "text/markdown", text="# hi")]),
        (b"\x00\x01", "", [Contents("test://it", "application/octet-stream", blob=b"\x00\x01")]),
        ({"a": 1}, "", [Contents("test://it", "application/json", text='{"a":1}')]),
        ([1, 2], "", [Contents("test://it", "application/json", text="[1,2]")]),
        ([Contents("test://1", text="1")] * 2, "", [Contents("test://1", text="1")] * 2),
        (Contents("test://other", text="x"), "", [Contents("test://other", text="x")]),
        (None, "", None),
    ],
)
async def test_a_value_becomes_contents(value: Any, mime_type: str, expected: Any) -> None:
    assert await read(holding(value, mime_type), "test://it") == expected


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("test://1/x", {"a": "1", "b": "x"}),
        ("test://a%2Fb/%C3%A9", {"a": "a%2Fb", "b": "%C3%A9"}),
        ("test://1/", None),
        ("test://1/x/y", None),
        ("test://1/x?y", None),
        ("test://1/x\n", {"a": "1", "b": "x\n"}),
        ("testx//1/x", None),
        ("", None),
    ],
)
def test_a_template_matches_whole_segments(uri: str, found: dict[str, str] | None) -> None:
    match = template_pattern("test://{a}/{b}").fullmatch(uri)
    assert (match.groupdict() if match else None) == found


async def test_variables_are_decoded_and_converted() -> None:
    resources = FunctionResources()
    resources.add(FunctionResource(lambda name, number=0: f"{name} {number}", "test://{name}/{number}"))
    with pytest.raises(ConfigError, match="not the same"):
        resources.add(FunctionResource(lambda name: name, "test://{name}/{number}"))

    def typed(number: int) -> int:
        return number + 1

    resources.add(FunctionResource(typed, "typed://{number}"))
    assert (await read(resources, "test://a%20b/2"))[0].text == "a b 2"
    assert (await read(resources, "typed://4"))[0].text == "5"
    with pytest.raises(ArgumentError, match="int"):
        await read(resources, "typed://four")


async def test_a_resource_goes_before_a_template_and_a_value_error_is_told() -> None:
    resources = FunctionResources()

    def refuse(x: str) -> str:
        raise ValueError(f"no {x}")

    resources.add(FunctionResource(refuse, "test://{x}"))
    resources.add(FunctionResource(lambda: "exact", "test://one"))
    assert (await read(resources, "test://one"))[0].text == "exact"
    with pytest.raises(EdgeError, match="no two"):
        await read(resources, "test://two")
    assert await read(resources, "other://two") is None
    assert [type(one) for one in (*await resources.resources(), *await resources.templates())] == [
        ResourceDefinition,
        TemplateDefinition,
    ]


async def test_names_that_others_have_are_refused() -> None:
    resources = FunctionResources(("model://",))
    with pytest.raises(ConfigError, match="already"):
        resources.add(FunctionResource(lambda: "", "model://mine"))


async def test_joined_rooms_answer_one_after_the_other() -> None:
    one, two = FunctionResources(), FunctionResources()
    one.add(FunctionResource(lambda: "one", "test://a"))
    two.add(FunctionResource(lambda: "two", "test://a"))
    two.add(FunctionResource(lambda x: x, "two://{x}"))
    two.completes("two://{x}", "x", lambda value, known: [value + "!"])
    joined = JoinedResources([one, two])
    assert (await read(joined, "test://a"))[0].text == "one"
    assert (await read(joined, "two://b"))[0].text == "b"
    assert await read(joined, "three://b") is None
    assert len(await joined.resources()) == 2
    assert [template.uriTemplate for template in await joined.templates()] == ["two://{x}"]
    assert await joined.complete("two://{x}", "x", "v", {}) == ["v!"]
