"""The validation ladder: a table of cases, and what never happens whatever a client sends."""

import base64
import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from edge_mcp.protocol import headers, jsonrpc
from edge_mcp.protocol.headers import LegacyMessage, ModernNotification, ModernRequest, Refusal
from edge_mcp.protocol.param_headers import check_params
from edge_mcp.protocol.versions import LEGACY

VERSION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
CALL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "look", "arguments": {"n": 1}, "_meta": META},
}
FIELDS = {"mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": "look"}


def routed(body: Any, fields: dict[str, str] | None = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return headers.route(CIMultiDict(FIELDS if fields is None else fields), raw)


def sentinel(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def without(body: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in keys}


def test_a_good_call() -> None:
    assert routed(CALL) == ModernRequest(1, "tools/call", "look", msgspec.Raw(b'{"n": 1}'))
    assert routed(CALL | {"id": 0}).id == 0


def test_what_is_no_call_has_no_tool() -> None:
    body = CALL | {"method": "tools/list"}
    assert routed(body, FIELDS | {"mcp-method": "tools/list"}) == ModernRequest(1, "tools/list")


@pytest.mark.parametrize(
    ("name", "value"),
    [("look", " look\t"), ("look", sentinel("look")), ("schön", sentinel("schön")), ("=?base64?x?=", sentinel("=?base64?x?="))],
)
def test_a_name_may_be_encoded(name: str, value: str) -> None:
    body = CALL | {"params": CALL["params"] | {"name": name}}
    assert isinstance(routed(body, FIELDS | {"mcp-name": value}), ModernRequest)


@pytest.mark.parametrize(
    ("method", "key"),
    [("prompts/get", "name"), ("resources/read", "uri"), ("tasks/get", "taskId"), ("tasks/update", "taskId")],
)
def test_every_method_that_names_something_has_it_in_the_header(method: str, key: str) -> None:
    body = CALL | {"method": method, "params": {key: "x", "_meta": META}}
    fields = FIELDS | {"mcp-method": method}
    assert isinstance(routed(body, fields | {"mcp-name": "x"}), ModernRequest)
    assert routed(body, fields | {"mcp-name": "y"}).code == jsonrpc.HEADER_MISMATCH
    assert routed(body, without(fields, "mcp-name")).code == jsonrpc.HEADER_MISMATCH


@pytest.mark.parametrize(
    ("body", "fields", "status", "code"),
    [
        (b"", {}, 400, -32700),
        (b"\xff", {}, 400, -32700),
        (b"{", {}, 400, -32700),
        (b"[" * 100_000, {}, 400, -32600),
        (b'{"id":' * 100_000, {}, 400, -32700),
        ([CALL], {}, 400, -32600),
        ([], {}, 400, -32600),
        ("text", {}, 400, -32600),
        (without(CALL, "jsonrpc"), {}, 400, -32600),
        (CALL | {"jsonrpc": "1.0"}, {}, 400, -32600),
        (CALL | {"id": None}, {}, 400, -32600),
        (CALL | {"id": 1.5}, {}, 400, -32600),
        (CALL | {"id": [1]}, {}, 400, -32600),
        (CALL | {"method": 5}, {}, 400, -32600),
        (without(CALL, "method"), {}, 400, -32600),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, {}, 400, -32600),
        (without(CALL, "params"), {}, 400, -32602),
        (CALL | {"params": []}, {}, 400, -32602),
        (CALL | {"params": {}}, {}, 400, -32602),
        (CALL | {"params": {"_meta": 5}}, {}, 400, -32602),
        (CALL | {"params": {"_meta": without(META, "io.modelcontextprotocol/protocolVersion")}}, {}, 400, -32602),
        (CALL | {"params": {"_meta": without(META, "io.modelcontextprotocol/clientCapabilities")}}, {}, 400, -32602),
        (CALL | {"params": {"_meta": META | {"io.modelcontextprotocol/clientCapabilities": []}}}, {}, 400, -32602),
        (CALL | {"params": {"_meta": META | {"io.modelcontextprotocol/protocolVersion": 5}}}, {}, 400, -32602),
        (CALL, {"mcp-protocol-version": "2026-07-29"}, 400, -32020),
        (CALL, {"mcp-method": "tools/Call"}, 400, -32020),
        (CALL, {"mcp-method": ""}, 400, -32020),
        (CALL, {"mcp-name": "Look"}, 400, -32020),
        (CALL, {"mcp-name": "löok"}, 400, -32020),
        (CALL, {"mcp-name": "=?base64?!!!?="}, 400, -32020),
        (CALL, {"mcp-name": "=?base64?/w==?="}, 400, -32020),
        (CALL | {"method": "initialize"}, {"mcp-method": "initialize"}, 404, -32601),
        (CALL | {"method": "no/such"}, {"mcp-method": "no/such"}, 404, -32601),
    ],
)
def test_the_rungs(body: Any, fields: dict[str, str], status: int, code: int) -> None:
    refusal = routed(body, FIELDS | fields)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code)
    assert jsonrpc.error_code(refusal.body) == code


@pytest.mark.parametrize("fields", [FIELDS, {"mcp-protocol-version": LEGACY[-1]}, {}])
def test_what_cannot_be_decoded_is_answered_by_its_id(fields: dict[str, str]) -> None:
    body = CALL | {"id": "one", "params": {"name": "look", "arguments": {"text": "\ud800"}, "_meta": META}}
    refusal = routed(body, fields)
    assert (refusal.status, refusal.code, refusal.id) == (400, jsonrpc.PARSE_ERROR, "one")
    assert json.loads(refusal.body)["id"] == "one"


def test_the_revision_is_judged_after_the_headers() -> None:
    later = CALL | {"params": CALL["params"] | {"_meta": META | {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}}}
    refusal = routed(later, FIELDS | {"mcp-protocol-version": "2027-01-01"})
    assert (refusal.code, refusal.data) == (-32022, {"supported": [VERSION], "requested": "2027-01-01"})
    assert routed(later).code == -32020


@pytest.mark.parametrize("name", FIELDS)
def test_a_routing_header_may_come_once_only(name: str) -> None:
    fields = CIMultiDict(FIELDS)
    fields.add(name.upper(), FIELDS[name])
    refusal = headers.route(fields, json.dumps(CALL).encode())
    assert isinstance(refusal, Refusal)
    assert refusal.code == -32020


def test_the_header_tells_the_era_and_not_the_method() -> None:
    first = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    assert routed(first, {}) == LegacyMessage((0,), None, initialize=True)
    assert routed(first, {"mcp-protocol-version": LEGACY[0]}) == LegacyMessage((0,), LEGACY[0], initialize=True)
    assert routed(CALL, {"mcp-protocol-version": LEGACY[3]}) == LegacyMessage((1,), LEGACY[3])
    assert routed(CALL, {}).code == -32020  # modern, without the header
    assert routed(CALL | {"method": "initialize"}, {}).initialize
    assert routed(without(CALL, "id")) == ModernNotification()


def test_what_an_older_client_sends() -> None:
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "a"}}
    assert routed(cancelled, {}) == LegacyMessage((), None, cancels=("a",))
    assert routed(cancelled | {"params": {}}, {}) == LegacyMessage((), None)
    assert routed({"jsonrpc": "2.0", "id": 1, "result": {}}, {}) == LegacyMessage((), None)
    assert routed({"jsonrpc": "2.0", "id": 1}, {}).code == -32600
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert routed([ping, cancelled, ping | {"id": "b"}], {}) == LegacyMessage((1, "b"), None, batch=True, cancels=("a",))
    assert routed([ping, 5], {}).ids == (1,)
    assert routed([5], {}).code == -32600
    assert routed([ping] * jsonrpc.MAX_BATCH, {}).batch
    assert routed([ping] * (jsonrpc.MAX_BATCH + 1), {}).code == -32600


@pytest.mark.parametrize("element", [b"1", b"{}", b'{"jsonrpc":"2.0"}', b"[]"])
def test_a_batch_of_millions_is_refused_before_it_is_taken_apart(element: bytes) -> None:
    body = b"[" + b",".join([element] * 2_000_000) + b"]"
    tracemalloc.start()
    try:
        assert routed(body, {}).code == -32600
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_batch_of_large_messages_is_taken() -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y" * 100_000}}
    assert routed([ping, ping | {"id": 2}], {}).ids == (1, 2)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Content-Type": "application/json"}, None),
        ({"Content-Type": "Application/JSON ; charset=utf-8", "Content-Length": "100"}, None),
        ({}, 400),
        ({"Content-Type": "application/jsonx"}, 400),
        ({"Content-Type": "application/json", "Content-Length": "101"}, 413),
        ({"Content-Type": "application/json", "Content-Length": "9" * 5000}, 413),
        ({"Content-Type": "application/json", "Content-Length": "-1"}, 413),
        ({"Content-Type": "application/json", "Content-Length": "²"}, 413),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "identity"}, None),
    ],
)
def test_the_content_is_judged_by_its_headers(fields: dict[str, str], status: int | None) -> None:
    refusal = headers.check_content(CIMultiDict(fields), 100)
    assert (refusal.status if refusal else None) == status


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        (["application/json, text/event-stream"], True),
        (["application/json", "text/event-stream"], True),
        (["TEXT/Event-Stream;q=0.9,application/json"], True),
        (["*/*"], True),
        (["application/*, text/event-stream"], True),
        (["application/json"], False),
        (["text/html, application/xhtml+xml"], False),
        ([], False),
        ([""], False),
    ],
)
def test_the_client_has_to_take_both_forms_of_an_answer(accept: list[str], taken: bool) -> None:
    fields = CIMultiDict([("Accept", value) for value in accept])
    assert (headers.check_accept(fields, headers.JSON, headers.EVENTS) is None) == taken


@pytest.mark.parametrize(("code", "status"), [(None, 200), (-32603, 200), (-32601, 404), (-32021, 400), (-32002, 200)])
def test_codes_have_their_status(code: int | None, status: int) -> None:
    assert headers.status(code) == status


def test_parameters_are_found_in_properties_only() -> None:
    schema = {
        "properties": {"list": {"items": {"properties": {"x": {"x-mcp-header": "X"}}}}, "odd": {"x-mcp-header": 5}, "no": True}
    }
    request = ModernRequest(1, "tools/call", "look", b'{"list":[{"x":1}]}')
    assert check_params(CIMultiDict(), request, schema) is None


def test_a_parameter_that_comes_twice_is_refused() -> None:
    schema = {"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}
    fields = CIMultiDict([("Mcp-Param-A", "1"), ("mcp-param-a", "1")])
    refusal = check_params(fields, ModernRequest(1, "tools/call", "look", b'{"a":"1"}'), schema)
    assert refusal is not None and refusal.code == -32020


def test_a_schema_that_has_no_end_is_left() -> None:
    schema: dict[str, Any] = {"x-mcp-header": "A"}
    schema["properties"] = {"again": schema}
    assert check_params(CIMultiDict(), ModernRequest(1, "tools/call", "look", b"{}"), schema) is None


names = st.sampled_from(["Mcp-Protocol-Version", "Mcp-Method", "mcp-name", "Accept", "Content-Type", "Content-Length", "X"])
values = st.sampled_from([VERSION, *LEGACY, "tools/call", "look", "=?base64?", sentinel("look")]) | st.text(max_size=30)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(META) | st.just(CALL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CALL, *CALL["params"], *META]), inner),
    max_leaves=12,
)
bodies = st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode())


@given(st.lists(st.tuples(names, values), max_size=6), bodies)
def test_nothing_that_is_sent_raises(fields: list[tuple[str, str]], body: bytes) -> None:
    multi = CIMultiDict(fields)
    outcome = headers.route(multi, body)
    assert isinstance(outcome, ModernRequest | ModernNotification | LegacyMessage | Refusal)
    if isinstance(outcome, Refusal):
        assert outcome.status in (400, 404)
        assert json.loads(outcome.body)["error"]["code"] == outcome.code
    headers.check_content(multi, 100)
    headers.check_accept(multi, headers.JSON, headers.EVENTS)
    headers.check_stream(multi)


@given(values, anything, anything)
def test_no_parameter_raises(value: str, arguments: Any, properties: Any) -> None:
    request = ModernRequest(1, "tools/call", "look", json.dumps(arguments).encode())
    check_params(CIMultiDict({"Mcp-Param-A": value}), request, {"properties": properties})
    schema = {"properties": {key: {"x-mcp-header": "A"} for key in CALL}}
    check_params(CIMultiDict({"Mcp-Param-A": value}), request, schema)


@given(st.text())
def test_the_sentinel_carries_any_text(text: str) -> None:
    assert headers.decoded(sentinel(text)) == text


def test_a_type_of_no_quality_is_not_accepted() -> None:
    for value, taken in {
        "application/json, text/event-stream;q=0": False,
        "application/json, text/event-stream; charset=x; Q=0.000": False,
        "*/*, text/event-stream;q=0": False,
        "text/event-stream, application/json;q=0.1": True,
        "*/*;q=0, text/*, application/json": True,
        "*/*;q=0": False,
    }.items():
        assert (headers.check_accept(CIMultiDict({"Accept": value}), headers.JSON, headers.EVENTS) is None) == taken, value
