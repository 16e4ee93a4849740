"""What a Python function takes, by its type hints."""

import asyncio
import functools
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Optional

import msgspec
import pytest

from edge_mcp import Context
from edge_mcp.errors import ArgumentError, ConfigError, EngineError
from edge_mcp.functions import MAX_THREADS, Function, schema_of
from edge_mcp.protocol.codec import Arguments


@dataclass
class Point:
    x: float
    y: float = 0


class Tree(msgspec.Struct):
    name: str
    children: list["Tree"] = []


def test_types_of_ones_own_are_defined_beside_the_arguments() -> None:
    def draw(start: Point, ends: list[Point]) -> None: ...

    schema = Function(draw).schema
    assert schema["properties"]["start"] == {"$ref": "#/$defs/Point"}
    assert schema["$defs"]["Point"]["required"] == ["x"]
    assert Function(draw).decode(Arguments(b'{"start": {"x": 1}, "ends": []}')) == {"start": Point(1), "ends": []}


def test_the_schema_of_a_type_stands_at_the_root_even_when_it_refers_to_itself() -> None:
    assert schema_of(Point, "p")["type"] == "object"
    assert "$defs" not in schema_of(Point, "p")
    tree = schema_of(Tree, "t")
    assert tree["type"] == "object"
    assert tree["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert set(tree["$defs"]) == {"Tree"}


@pytest.mark.parametrize(
    "arguments",
    [b"", b"[]", b"null", b'"x"', b"\xff", b"[" * 5000, b'{"n": 1.5}', b'{"n": "1"}', b'{"n": 1, "n2": 1}', b'{"n": 11}'],
)
def test_what_does_not_fit_is_refused(arguments: bytes) -> None:
    def take(n: Annotated[int, msgspec.Meta(le=10)]) -> None: ...

    with pytest.raises(ArgumentError, match=r"take: .*It takes n"):
        Function(take).decode(Arguments(arguments))


def test_texts_become_what_the_hints_say() -> None:
    def take(n: int, flag: bool = False, name: str = "") -> None: ...

    assert Function(take).convert({"n": "7", "flag": "true", "name": "5"}) == {"n": 7, "flag": True, "name": "5"}
    with pytest.raises(ArgumentError, match="int"):
        Function(take).convert({"n": "seven"})


def test_a_function_with_open_arguments_gets_them_all() -> None:
    def take(n: int, **more: Any) -> None: ...

    assert Function(take).decode(Arguments(b'{"n": 1, "x": [2]}')) == {"n": 1, "x": [2]}
    assert Function(take).convert({"n": "1", "x": "y"}) == {"n": 1, "x": "y"}
    with pytest.raises(ArgumentError):
        Function(take).decode(Arguments(b'{"x": [2]}'))


async def test_a_default_that_can_be_changed_is_each_calls_own() -> None:
    def grow(values: list[int] = [1]) -> list[int]:  # noqa: B006
        values.append(2)
        return values

    function = Function(grow)
    for _ in range(2):
        assert await function.call(function.decode(Arguments(b"{}"))) == [1, 2]


async def test_any_callable_can_be_served() -> None:
    class Adder:
        async def __call__(self, n: int) -> int:
            return n + 1

    adder = Function(Adder())
    assert adder.name == "Adder"
    assert await adder.call(adder.decode(Arguments(b'{"n": 1}'))) == 2

    def scale(factor: int, n: int) -> int:
        return factor * n

    double = Function(functools.partial(scale, 2))
    assert await double.call(double.decode(Arguments(b'{"n": 2}'))) == 4


def test_hints_that_make_no_schema_are_refused() -> None:
    def unknown(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def strange(a: complex) -> None: ...

    for function in (unknown, strange):
        with pytest.raises(ConfigError, match="hints"):
            Function(function)


async def test_what_a_plain_function_raises_reaches_the_caller() -> None:
    def fail(kind: str) -> None:
        raise {"value": ValueError, "stop": StopIteration, "exit": SystemExit}[kind]("no")

    function = Function(fail)
    for kind, raised in [("value", ValueError), ("stop", RuntimeError), ("exit", RuntimeError)]:
        with pytest.raises(raised):
            await function.call({"kind": kind})


async def test_a_plain_function_whose_caller_has_gone_ends_quietly() -> None:
    started, go, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        loop.call_soon_threadsafe(started.set)
        go.wait(5)
        ended.set()
        return "nobody hears it"

    call = asyncio.create_task(Function(work).call({}))
    await asyncio.wait_for(started.wait(), 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    assert await asyncio.to_thread(ended.wait, 5)


async def test_there_is_a_bound_to_plain_functions_also_of_callers_that_left() -> None:
    go = threading.Event()
    function = Function(go.wait)
    before = threading.active_count()
    callers = [asyncio.create_task(function.call({})) for _ in range(MAX_THREADS)]
    try:
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        for _ in range(10):
            with pytest.raises(EngineError, match=r"too many plain functions are running\. Call again later"):
                await function.call({})
        assert threading.active_count() <= before + MAX_THREADS
    finally:
        go.set()
    async with asyncio.timeout(30):
        while threading.active_count() > before:
            await asyncio.sleep(0.01)
    assert await function.call({})


def test_a_context_may_be_optional() -> None:
    def one(context: Context | None = None) -> None: ...

    def other(context: Optional[Context], n: int) -> None: ...  # noqa: UP045

    assert Function(one).schema["properties"] == {}
    assert list(Function(other).schema["properties"]) == ["n"]
