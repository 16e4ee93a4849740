"""What the bridge knows of a conversation: pure, frame by frame."""

import json
from typing import Any

import pytest

from edge_mcp.client.bridge_questions import MAX_QUESTIONS
from edge_mcp.client.bridge_record import MAX_KEPT, MAX_OPEN, Record, ToDevice, ToHost
from edge_mcp.errors import ConfigError
from edge_mcp.protocol.jsonrpc import Envelope, Malformed
from edge_mcp.transports.base import Oversized

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def frame(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def plain(out: Any) -> dict[str, Any]:
    """The message of what is to be passed on."""
    assert isinstance(out, ToHost | ToDevice), out
    message: dict[str, Any] = json.loads(out.frame)
    return message


def ask(record: Record, known: Any, method: str, up: bool = True, **params: Any) -> Any:
    return record.from_host(frame(id=known, method=method, params=params), up)


def answer(record: Record, known: Any, **result: Any) -> Any:
    return record.from_device(frame(id=known, result=result))


def initialized(version: str = "2025-11-25") -> Record:
    record = Record()
    ask(record, 0, "initialize", protocolVersion=version, capabilities={"roots": {}})
    answer(record, 0, protocolVersion=version)
    record.from_host(frame(method="notifications/initialized"), True)
    return record


def again(record: Record) -> list[dict[str, Any]]:
    """What a new connection gets, in order."""
    frames: list[dict[str, Any]] = []
    while (waiting := record.next_waiting()) is not None:
        frames.append(json.loads(waiting))
    return frames


def test_frames_pass_as_the_bytes_that_came() -> None:
    record = Record()
    odd = b' {"id" : 7,"x":[1,  2],"method":"tools/call", "jsonrpc":"2.0","params":{"name":"t","arguments":{"a":"\xc3\xa4"}} } '
    assert record.from_host(odd, True) == ToDevice(odd)
    back = b'{ "result":{"content":[ ]} ,"jsonrpc":"2.0","id":7}'
    assert record.from_device(back) == ToHost(back, 7, True)
    assert record.idle
    assert record.from_device(back) is not None  # an answer that nobody waits for is given back, and goes nowhere


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (b"{", None),
        (b'{"jsonrpc":"2.0","id":3,"method":"x","params":"\xff"}', None),
        (b'{"jsonrpc":"1.0","id":3,"method":"x"}', 3),
        (b'{"jsonrpc":"2.0","id":null,"method":"x"}', None),
        (b"[]", None),
        (Oversized(b'{"id": 9, "method": "tools/call"', b"}", 10**9, 10**6), 9),
    ],
)
def test_what_is_no_message_is_answered_here_and_never_reaches_the_device(sent: Any, known: Any) -> None:
    out = Record().from_host(sent, True)
    assert isinstance(out, ToHost)
    assert plain(out).get("id") == known
    assert "error" in plain(out)


def test_an_id_in_use_is_refused() -> None:
    record = Record()
    ask(record, 1, "tools/list")
    assert "in use" in plain(ask(record, 1, "tools/list"))["error"]["message"]
    assert isinstance(ask(record, "1", "tools/list"), ToDevice)


def test_requests_wait_for_a_device_that_is_away_and_are_bounded() -> None:
    record = Record()
    assert ask(record, 1, "tools/call", up=False, name="write") is None
    assert [one["id"] for one in again(record)] == [1]
    for number in range(2, MAX_OPEN + 1):
        assert ask(record, number, "ping", up=False) is None
    refused = plain(ask(record, "more", "ping", up=False))
    assert refused["id"] == "more"
    assert "wait for their answers already" in refused["error"]["message"]
    assert not record.full
    big = Record()
    big.from_host(frame(id=1, method="tools/call", params={"a": "x" * MAX_KEPT}), False)
    assert big.full


def test_a_cancelled_request_that_never_left_is_forgotten() -> None:
    record = Record()
    ask(record, 1, "tools/call", up=False)
    assert record.from_host(frame(method="notifications/cancelled", params={"requestId": 1}), False) is None
    assert record.idle
    ask(record, 2, "tools/call")
    cancel = frame(method="notifications/cancelled", params={"requestId": 2})
    assert record.from_host(cancel, True) == ToDevice(cancel)
    assert record.idle


@pytest.mark.parametrize(
    ("method", "params", "repeated"),
    [
        ("tools/list", {}, True),
        ("resources/read", {"uri": "device://status"}, True),
        ("prompts/get", {"name": "p"}, True),
        ("tools/call", {"name": "look"}, True),
        ("tools/call", {"name": "write"}, False),
        ("tools/call", {"name": "look", "arguments": {"stream": "s", "audio": "x"}}, False),
        ("tools/call", {"name": "look", "task": {"ttl": 1}}, False),
        ("tools/call", {"name": ["look"]}, False),
        ("tasks/update", {"taskId": "1"}, False),
        ("something/else", {}, False),
    ],
)
def test_only_what_does_no_harm_is_repeated(method: str, params: dict[str, Any], repeated: bool) -> None:
    record = Record()
    ask(record, 5, method, **params)
    assert list(record.lost()) == []
    refused = [plain(out) for out in record.refuse_unsafe({"look"}, "cut")]
    assert [one["id"] for one in again(record)] == ([5] if repeated else [])
    assert [one["id"] for one in refused] == ([] if repeated else [5])
    if refused:
        assert "was lost while this was on its way (cut), and it may have been done" in refused[0]["error"]["message"]


def test_a_request_that_ends_every_connection_is_not_repeated_for_ever() -> None:
    record = Record()
    ask(record, 5, "tools/list")
    for _ in range(2):
        list(record.lost())
        assert list(record.refuse_unsafe((), "cut")) == []
        assert len(again(record)) == 1
    list(record.lost())
    [refused] = record.refuse_unsafe((), "cut")
    assert "lost 3 times" in plain(refused)["error"]["message"]
    assert record.idle


def test_what_there_is_no_room_for_is_passed_but_not_repeated() -> None:
    record = Record()
    big = frame(id=1, method="tools/list", params={"x": "y" * (MAX_KEPT - 100)})
    assert isinstance(record.from_host(big, True), ToDevice)
    second = frame(id=2, method="tools/list", params={"x": "y" * 200})
    assert isinstance(record.from_host(second, True), ToDevice)
    assert not record.full
    list(record.lost())
    assert [plain(out)["id"] for out in record.refuse_unsafe((), "cut")] == [2]


def test_an_older_session_is_brought_about_again() -> None:
    record = initialized()
    ask(record, 1, "logging/setLevel", level="warning")
    answer(record, 1)
    for number, uri in enumerate(("a://1", "a://2"), 2):
        ask(record, number, "resources/subscribe", uri=uri)
        answer(record, number)
    ask(record, 4, "resources/unsubscribe", uri="a://1")
    answer(record, 4)
    ask(record, 5, "resources/subscribe", uri="a://3")
    record.from_device(frame(id=5, error={"code": -32602, "message": "no"}))
    assert json.loads(record.hello)["capabilities"] == {"roots": {}}
    assert [(method, json.loads(params)) for method, params in record.settings()] == [
        ("logging/setLevel", {"level": "warning"}),
        ("resources/subscribe", {"uri": "a://2"}),
    ]
    envelope = record.from_device(frame(id="own", result={"protocolVersion": "2025-11-25"}))
    assert isinstance(envelope, Envelope)
    assert [json.loads(one)["method"] for one in record.agree(envelope.result)] == ["notifications/initialized"]


def test_a_device_that_now_speaks_another_revision_cannot_be_passed_on() -> None:
    record = initialized()
    envelope = record.from_device(frame(id="own", result={"protocolVersion": "2024-11-05"}))
    assert isinstance(envelope, Envelope)
    with pytest.raises(ConfigError, match=r"now speaks MCP '2024-11-05' instead of '2025-11-25'\. Start the host anew"):
        record.agree(envelope.result)


def test_lists_are_told_to_have_changed_when_they_have() -> None:
    record = initialized()
    ask(record, 1, "tools/list")
    answer(record, 1, tools=[{"name": "a"}], nextCursor="2")
    ask(record, 2, "tools/list", cursor="2")
    answer(record, 2, tools=[])
    ask(record, 3, "prompts/list")
    answer(record, 3, prompts=[])
    assert set(record.lists) == {("tools/list", None), ("tools/list", "2"), ("prompts/list", None)}
    told = [plain(out) for out in record.changed({"tools/list"})]
    assert [one["method"] for one in told] == ["notifications/tools/list_changed"]
    assert set(record.lists) == {("prompts/list", None)}


def test_subscriptions_of_the_modern_era_go_on_without_a_second_acknowledgement() -> None:
    record = Record()
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["device://status"]}
    ask(record, "listen-1", "subscriptions/listen", notifications=wanted, _meta=META)
    acknowledged = frame(method="notifications/subscriptions/acknowledged", params={"_meta": {SUBSCRIPTION: "listen-1"}})
    assert record.from_device(acknowledged) == ToHost(acknowledged, "listen-1")
    for _ in range(5):
        list(record.lost())
        assert list(record.refuse_unsafe((), "cut")) == []
        assert [one["id"] for one in again(record)] == ["listen-1"]
    assert record.from_device(acknowledged) is None
    told = [plain(out) for out in record.changed({"tools/list", "prompts/list"})]
    assert told == [
        {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {SUBSCRIPTION: "listen-1"}}},
        {
            "jsonrpc": "2.0",
            "method": "notifications/resources/updated",
            "params": {"uri": "device://status", "_meta": {SUBSCRIPTION: "listen-1"}},
        },
    ]
    ended, cancel = record.end_listening()
    assert plain(ended) == {
        "jsonrpc": "2.0",
        "id": "listen-1",
        "result": {"resultType": "complete", "_meta": {SUBSCRIPTION: "listen-1"}},
    }
    assert plain(cancel)["params"] == {"requestId": "listen-1"}
    assert record.idle


def test_questions_of_a_device_that_was_away_are_void_and_new_ones_have_other_ids() -> None:
    record = initialized()
    ask(record, 1, "tools/call", name="ask")
    question = frame(id=1, method="elicitation/create", params={"message": "?"})
    assert record.from_device(question) == ToHost(question, 1)
    [void] = record.lost()
    assert plain(void)["params"]["requestId"] == 1
    reply = record.from_device(question)
    own = plain(reply)["id"]
    assert own != 1
    assert plain(reply)["params"] == {"message": "?"}
    assert record.from_host(frame(id=1, result={"action": "accept"}), True) is None  # to the question of before
    back = record.from_host(frame(id=own, result={"action": "decline"}), True)
    assert plain(back) == {"jsonrpc": "2.0", "id": 1, "result": {"action": "decline"}}
    assert record.from_host(frame(id=own, result={"action": "decline"}), True) is None


def test_a_question_that_is_taken_back_is_taken_back_by_its_other_id() -> None:
    record = initialized()
    list(record.lost())
    own = plain(record.from_device(frame(id=4, method="roots/list")))["id"]
    taken = record.from_device(frame(method="notifications/cancelled", params={"requestId": 4}))
    assert plain(taken)["params"]["requestId"] == own


def test_questions_are_bounded() -> None:
    record = initialized()
    for number in range(MAX_QUESTIONS):
        assert isinstance(record.from_device(frame(id=number, method="roots/list")), ToHost)
    refused = record.from_device(frame(id="more", method="roots/list"))
    assert isinstance(refused, ToDevice)
    assert "open already" in plain(refused)["error"]["message"]


def test_what_is_told_goes_to_the_stream_that_it_is_about() -> None:
    record = initialized()
    for known, token in (("a", 1), ("b", "two")):
        ask(record, known, "tools/call", name="t", _meta={"progressToken": token})

    def about(method: str, **params: Any) -> Any:
        out = record.from_device(frame(method=method, params=params))
        assert isinstance(out, ToHost)
        return out.about

    assert about("notifications/progress", progressToken=1, progress=1) == "a"
    assert about("notifications/progress", progressToken="two", progress=1) == "b"
    assert about("notifications/progress", progressToken="none", progress=1) is None
    assert about("notifications/message", level="info") == "b"
    assert about("notifications/tools/list_changed") is None


def test_progress_only_grows_although_a_call_is_made_again() -> None:
    record = initialized()
    ask(record, 1, "tools/call", name="t", _meta={"progressToken": "p"})
    ask(record, 2, "ping")

    def told(*steps: float) -> list[float]:
        outs = [
            record.from_device(frame(method="notifications/progress", params={"progressToken": "p", "progress": n}))
            for n in steps
        ]
        return [plain(out)["params"]["progress"] for out in outs if out is not None]

    assert told(0, 1, 2) == [0, 1, 2]
    list(record.lost())
    assert [one["id"] for one in again(record)] == [1, 2]
    assert told(0, 1, 2, 2.5, 3) == [2.5, 3]


def test_progress_of_a_batch_ends_no_connection() -> None:
    record = initialized("2025-03-26")
    calls = [{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"_meta": {"progressToken": n}}} for n in (1, 2)]
    record.from_host(json.dumps(calls).encode(), True)
    told = frame(method="notifications/progress", params={"progressToken": 2, "progress": 1})
    assert record.from_device(told) == ToHost(told, None)


def test_a_batch_is_one_and_is_never_repeated() -> None:
    record = initialized("2025-03-26")
    batch = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]'
    assert record.from_host(batch, True) == ToDevice(batch)
    answers = b'[{"jsonrpc":"2.0","id":2,"result":{}},{"jsonrpc":"2.0","id":1,"result":{}}]'
    assert record.from_device(answers) == ToHost(answers, 2, True)
    assert record.idle
    record.from_host(batch, True)
    list(record.lost())
    [refused] = record.refuse_unsafe((), "cut")
    assert [one["id"] for one in json.loads(refused.frame)] == [1, 2]


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"\xff\xfe", b"[[[[", b'{"jsonrpc":"2.0","id":{},"result":1}', b"null", b"[" * 5000]
)
def test_garbage_of_the_device_is_malformed_and_nothing_else(sent: bytes) -> None:
    for record in (Record(), initialized("2025-03-26")):
        with pytest.raises(Malformed):
            record.from_device(sent)


@pytest.mark.parametrize(
    "params",
    [b"", b'"x"', b"[1]", b'{"_meta":1}', b'{"requestId":{}}', b'{"progressToken":[]}', b'{"_meta":{"progressToken":{}}}'],
)
@pytest.mark.parametrize("method", ["notifications/progress", "notifications/cancelled", "notifications/message", "x"])
def test_params_of_any_shape_are_passed_on(method: str, params: bytes) -> None:
    body = b'{"jsonrpc":"2.0","method":"%s"%s}' % (method.encode(), b',"params":' + params if params else b"")
    record = Record()
    out = record.from_device(body)
    assert isinstance(out, ToHost)
    assert out.frame == body
    assert record.from_host(body, True) == ToDevice(body)


def test_who_leaves_says_so_for_what_is_on_its_way() -> None:
    record = Record()
    ask(record, 1, "tools/call")
    ask(record, 2, "tools/call", up=False)
    assert [plain(out)["params"] for out in record.leave()] == [{"requestId": 1}]
    assert record.idle


def test_how_long_a_device_may_be_silent_is_its_own_word_and_no_hosts() -> None:
    record = Record()
    meta = {"io.edge-mcp/keepalive": {"intervalMs": 20000, "graceMs": 5000}}
    ask(record, 1, "server/discover", _meta=META)
    answer(record, 1, supportedVersions=["2026-07-28"], _meta=meta)
    assert record.silence_s == 25
    told = frame(method="notifications/io.edge-mcp/keepalive", params={"intervalMs": 40000, "graceMs": 5000})
    assert record.from_device(told) is None
    assert record.silence_s == 45
    list(record.lost())
    assert record.silence_s is None
