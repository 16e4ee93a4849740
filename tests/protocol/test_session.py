"""The protocol state of one connection, without I/O."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.messages import CallParams, Implementation, ListParams, ToolResult
from edge_mcp.protocol.session import About, Answer, Cancelled, Event, Request, Session
from edge_mcp.protocol.versions import LEGACY, MODERN
from edge_mcp.transports.base import EDGE, Oversized

ABOUT = About(Implementation("edge-mcp", "1.2.3"), {"tools": {}}, "What this is.")
MODERN_META = {"io.modelcontextprotocol/protocolVersion": MODERN[-1], "io.modelcontextprotocol/clientCapabilities": {}}


def message(method: str, request_id: Any = None, **params: Any) -> bytes:
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if request_id is not None:
        body["id"] = request_id
    if params:
        body["params"] = params
    return json.dumps(body).encode()


def modern(method: str, request_id: Any = None, **params: Any) -> bytes:
    return message(method, request_id, **(params | {"_meta": MODERN_META | params.get("_meta", {})}))


def initialize(version: str = LEGACY[-1], request_id: Any = 0) -> bytes:
    return message("initialize", request_id, protocolVersion=version, capabilities={}, clientInfo={"name": "c", "version": "1"})


def legacy_session(version: str = LEGACY[-1]) -> Session:
    session = Session(ABOUT)
    session.receive(initialize(version))
    session.receive(message("notifications/initialized"))
    return session


def only(events: list[Event]) -> Event:
    assert len(events) == 1
    return events[0]


def answer(events: list[Event]) -> dict[str, Any]:
    event = only(events)
    assert isinstance(event, Answer)
    decoded = json.loads(event.frame)
    assert decoded["jsonrpc"] == "2.0"
    assert isinstance(decoded, dict)
    return decoded


def error_code(events: list[Event]) -> int:
    return int(answer(events)["error"]["code"])


@pytest.mark.parametrize("version", LEGACY)
def test_initialize_echoes_every_revision_that_is_served(version: str) -> None:
    reply = answer(Session(ABOUT).receive(initialize(version)))
    assert reply["id"] == 0
    assert reply["result"]["protocolVersion"] == version
    assert reply["result"]["serverInfo"] == {"name": "edge-mcp", "version": "1.2.3"}
    assert reply["result"]["capabilities"] == {"tools": {}}


@pytest.mark.parametrize("version", ["2026-07-28", "1999-01-01", "nonsense"])
def test_initialize_with_another_revision_is_answered_with_the_latest_legacy_one(version: str) -> None:
    assert answer(Session(ABOUT).receive(initialize(version)))["result"]["protocolVersion"] == "2025-11-25"


@pytest.mark.parametrize("request_id", [0, -1, 7, "", "a", "0"])
def test_ids_are_echoed_as_they_came(request_id: int | str) -> None:
    assert answer(legacy_session().receive(message("ping", request_id)))["id"] == request_id


def test_ping_is_answered_before_initialize() -> None:
    assert answer(Session(ABOUT).receive(message("ping", 1)))["result"] == {}


def test_a_request_before_any_handshake_says_how_to_begin() -> None:
    reply = answer(Session(ABOUT).receive(message("tools/list", 1)))
    assert reply["error"]["code"] == -32602
    assert "initialize" in reply["error"]["message"]


def test_discover_opens_a_modern_conversation() -> None:
    session = Session(ABOUT)
    result = answer(session.receive(modern("server/discover", 1)))["result"]
    assert result["supportedVersions"] == ["2026-07-28"]
    assert result["resultType"] == "complete"
    assert result["cacheScope"] == "public"
    assert isinstance(result["ttlMs"], int)
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "edge-mcp"
    assert session.version == "2026-07-28"


def test_a_modern_conversation_has_no_ping() -> None:
    session = Session(ABOUT)
    session.receive(modern("server/discover", 1))
    assert error_code(session.receive(modern("ping", 2))) == -32601


def test_initialize_in_a_modern_conversation_names_the_revisions() -> None:
    session = Session(ABOUT)
    session.receive(modern("server/discover", 1))
    error = answer(session.receive(initialize(request_id=2)))["error"]
    assert error["code"] == -32022
    assert error["data"] == {"supported": ["2026-07-28"], "requested": "2025-11-25"}


def test_a_modern_request_in_a_legacy_conversation_is_invalid() -> None:
    assert error_code(legacy_session().receive(modern("tools/list", 1))) == -32600


def test_an_unknown_modern_revision_is_refused_and_does_not_decide_the_era() -> None:
    session = Session(ABOUT)
    meta = {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    error = answer(session.receive(modern("tools/list", 1, _meta=meta)))["error"]
    assert (error["code"], error["data"]["requested"]) == (-32022, "2099-01-01")
    assert "result" in answer(session.receive(initialize(request_id=2)))


@pytest.mark.parametrize(
    "meta",
    [
        {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        {"io.modelcontextprotocol/protocolVersion": 5, "io.modelcontextprotocol/clientCapabilities": {}},
        {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": []},
        {},
    ],
)
def test_a_modern_request_without_its_keys_is_invalid(meta: dict[str, Any]) -> None:
    session = Session(ABOUT)
    session.receive(modern("server/discover", 1))
    assert error_code(session.receive(message("tools/list", 2, _meta=meta))) == -32602


def test_a_call_keeps_its_arguments_as_the_peer_wrote_them() -> None:
    frame = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a": [1.50, "\\u00e9"]}}}'
    request = only(legacy_session().receive(frame))
    assert isinstance(request, Request)
    assert isinstance(request.params, CallParams)
    assert bytes(request.params.arguments) == b'{"a": [1.50, "\\u00e9"]}'


def test_a_list_request_has_its_cursor() -> None:
    request = only(legacy_session().receive(message("tools/list", 1, cursor="x")))
    assert isinstance(request, Request)
    assert isinstance(request.params, ListParams)
    assert request.params.cursor == "x"


def test_a_result_is_spliced_in_and_answers_once() -> None:
    session = legacy_session()
    session.receive(message("tools/call", "a", name="t"))
    result = ToolResult(msgspec.Raw(b'[{"type":"text","text":"x"}]'), msgspec.Raw(b'{"n":1}'))
    frame = session.result("a", result)
    assert frame is not None
    assert json.loads(frame)["result"] == {"content": [{"type": "text", "text": "x"}], "structuredContent": {"n": 1}}
    assert session.result("a", result) is None


def test_a_modern_result_carries_its_type_and_the_server() -> None:
    session = Session(ABOUT)
    session.receive(modern("tools/call", 1, name="t"))
    frame = session.result(1, ToolResult.failed("no"))
    assert frame is not None
    result = json.loads(frame)["result"]
    assert result["resultType"] == "complete"
    assert result["isError"] is True
    assert "structuredContent" not in result
    assert "ttlMs" not in result
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["version"] == "1.2.3"


def test_what_a_result_says_beside_itself_is_under_meta_in_both_eras() -> None:
    legacy, modern_one = legacy_session(), Session(ABOUT)
    legacy.receive(message("tools/call", 1, name="t"))
    modern_one.receive(modern("tools/call", 1, name="t"))
    for session in (legacy, modern_one):
        frame = session.result(1, ToolResult.failed("busy", {"a/b": {"n": 1}}))
        assert frame is not None
        result = json.loads(frame)["result"]
        assert result["_meta"]["a/b"] == {"n": 1}
        assert "meta" not in result


def test_a_cancelled_request_is_never_answered() -> None:
    session = legacy_session()
    session.receive(message("tools/call", 5, name="t"))
    assert only(session.receive(message("notifications/cancelled", requestId=5, reason="enough"))) == Cancelled(5)
    assert session.result(5, {}) is None
    assert session.error(5, -32603, "x") is None


def test_cancelling_what_is_not_open_means_nothing() -> None:
    session = legacy_session()
    assert session.receive(message("notifications/cancelled", requestId=5)) == []
    assert session.receive(message("notifications/cancelled", requestId=None)) == []
    assert session.receive(message("notifications/cancelled")) == []


def test_an_id_in_use_cannot_be_used_again_until_answered() -> None:
    session = legacy_session()
    session.receive(message("tools/list", 1))
    assert error_code(session.receive(message("tools/list", 1))) == -32600
    assert session.result(1, {"tools": []}) is not None
    assert isinstance(only(session.receive(message("tools/list", 1))), Request)


@pytest.mark.parametrize(
    ("frame", "code", "request_id"),
    [
        (b"", -32700, None),
        (b"nonsense", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b"[" * 100_000, -32600, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":' + b"[" * 100_000, -32700, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}', -32700, 1),
        (b'{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":NaN}}', -32700, "a"),
        (b'{"method":"tools/call","params":{"n":NaN},"jsonrpc": "2.0" , "id" : 1 } ', -32700, 1),
        (b'{"jsonrpc":"2.0","method":"tools/call\xff","id":1}', -32700, 1),
        (b'{"jsonrpc":"2.0","method":"notifications/x","params":{"id":1,"n":NaN}}', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"result":{"n":NaN}}', -32700, None),  # 1 is also that of a request of the client's
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"image":"%s\\ud800"}}' % (b"A" * 10_000), -32700, 1),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b"null", -32600, None),
        (b'{"jsonrpc":"1.0","id":3,"method":"ping"}', -32600, 3),
        (b'{"id":3,"method":"ping"}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":3}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":7}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":3,"method":"tools/list","params":true}', -32602, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"tools/list","params":[]}', -32602, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{}}', -32602, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":1}}', -32602, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"resources/list"}', -32601, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"server/discover"}', -32601, 3),
    ],
)
def test_what_is_no_valid_request_gets_its_error(frame: bytes, code: int, request_id: int | str | None) -> None:
    reply = answer(legacy_session().receive(frame))
    assert reply["error"]["code"] == code
    assert reply.get("id") == request_id
    assert ("id" in reply) == (request_id is not None)


def test_notifications_and_stray_answers_are_never_answered() -> None:
    session = legacy_session()
    for frame in (
        message("notifications/whatever"),
        message("tools/list"),
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}',
    ):
        assert session.receive(frame) == []


@pytest.mark.parametrize(
    ("frame", "request_id"),
    [
        (b'{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{"arguments":{"image":"%s"}}}', 12),
        (b'{"method":"tools/call","params":{"arguments":{"image":"%s"}},"jsonrpc":"2.0","id":"x-1"}', "x-1"),
        (b'{"method":"tools/call","params":{"arguments":{"image":"%s"}},"id":0,"jsonrpc":"2.0"}', 0),
        (b'{"method":"tools/call","params":{"arguments":{"id":5,"image":"%s"}}}', None),
        (b"%s", None),
    ],
)
def test_an_oversized_request_is_answered_by_its_id_where_that_can_be_seen(frame: bytes, request_id: int | str | None) -> None:
    whole = frame % (b"A" * 100_000)
    reply = answer(legacy_session().receive(Oversized(whole[:EDGE], whole[-EDGE:], len(whole), 50_000)))
    assert reply["error"]["code"] == -32600
    assert "max_message_mb" in reply["error"]["message"]
    assert reply.get("id") == request_id


@pytest.mark.parametrize("unit", [b'","id":1,', b'"id":', b'"id":1 ', b',"id":"', b"1", b" ", b'"', b"\\", b",", b"}"])
@pytest.mark.parametrize("before", [b"", b"{", b'{"id":', b'{"id":"', b'",'])
@pytest.mark.parametrize("after", [b"", b"}", b"x}", b'"}'])
def test_an_id_is_looked_for_in_time_that_a_peer_cannot_stretch(unit: bytes, before: bytes, after: bytes) -> None:
    edge = (before + unit * EDGE)[: EDGE - len(after)] + after
    began = time.process_time()
    for _ in range(3):
        jsonrpc.find_id(edge, edge)
    assert time.process_time() - began < 0.1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
methods = st.sampled_from(
    [
        "initialize",
        "ping",
        "tools/list",
        "tools/call",
        "server/discover",
        "notifications/cancelled",
        "notifications/initialized",
    ]
)
metas = st.sampled_from([MODERN_META, {}, {"progressToken": 1}, {"io.modelcontextprotocol/protocolVersion": "x"}])
near_messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | json_values},
    optional={
        "id": st.integers() | st.text() | json_values,
        "method": methods | json_values,
        "params": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "_meta": metas | json_values,
                "name": json_values,
                "arguments": json_values,
                "cursor": json_values,
                "requestId": json_values,
                "protocolVersion": st.sampled_from(LEGACY) | json_values,
                "capabilities": st.just({}) | json_values,
                "clientInfo": st.just({}) | json_values,
            },
        ),
        "result": json_values,
        "error": json_values,
    },
)
frames = (
    st.binary(max_size=200)
    | json_values.map(lambda v: json.dumps(v).encode())
    | near_messages.map(lambda v: json.dumps(v).encode())
)


@settings(max_examples=400, deadline=None)
@given(st.lists(frames, max_size=8))
def test_whatever_a_peer_sends_there_is_an_event_or_silence_and_never_an_exception(sent: list[bytes]) -> None:
    session = Session(ABOUT)
    for frame in sent:
        for event in session.receive(frame):
            match event:
                case Answer(frame=reply):
                    decoded = json.loads(reply)
                    assert ("result" in decoded) != ("error" in decoded)
                case Request(id=request_id):
                    result = session.result(request_id, ToolResult.failed("x"))
                    assert result is not None
                    assert json.loads(result)["id"] == request_id
                case Cancelled():
                    pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_an_oversized_frame_was_it_gets_one_error(head: bytes, tail: bytes) -> None:
    assert error_code(Session(ABOUT).receive(Oversized(head, tail, 10**9, 10**6))) == -32600
