"""MessagePack's messages are those of JSON; what is wrong with one is answered once, by its id where that can be seen."""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.protocol.codec import JSON, codec_of
from edge_mcp.protocol.messagepack import MAX_OBJECTS, MSGPACK, SMALL
from edge_mcp.protocol.messages import CallParams, Implementation, PromptParams, ToolResult
from edge_mcp.protocol.session import About, Answer, Event, Request, Response, Session
from edge_mcp.protocol.versions import BATCHES, LEGACY, MODERN
from edge_mcp.transports.base import EDGE, Oversized
from tests.packing import as_json, unpacked
from tests.protocol.test_session import frames, json_values, near_messages

ABOUT = About(Implementation("edge-mcp", "1.2.3"), {"tools": {}, "prompts": {}}, "What this is.")
META = {"io.modelcontextprotocol/protocolVersion": MODERN[-1], "io.modelcontextprotocol/clientCapabilities": {}}
HELLO = {"protocolVersion": LEGACY[-1], "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}


def request(method: str, request_id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def opened(version: str = LEGACY[-1], packs: bool = True) -> Session:
    session = Session(ABOUT, codec=MSGPACK if packs else JSON)
    if version in LEGACY:
        hello = request("initialize", 0, **HELLO | {"protocolVersion": version})
        session.receive(msgpack.packb(hello) if packs else json.dumps(hello).encode())
    return session


def answer(events: Sequence[Event]) -> Any:
    (event,) = events
    assert isinstance(event, Answer)
    return unpacked(event.frame)


def test_a_connection_names_its_codec() -> None:
    assert codec_of("json") is JSON
    assert codec_of("msgpack") is MSGPACK
    with pytest.raises(KeyError):
        codec_of("cbor")


def test_a_call_is_passed_on_undecoded_and_its_result_spliced_in() -> None:
    session = opened()
    given = {"image": b"\x89PNG", "n": [1.5, None]}
    (event,) = session.receive(msgpack.packb(request("tools/call", "x", name="look", arguments=given)))
    assert isinstance(event, Request)
    assert isinstance(event.params, CallParams)
    assert bytes(event.params.arguments) == msgpack.packb(given)
    frame = session.result("x", ToolResult(msgspec.Raw(msgpack.packb([])), msgspec.Raw(msgpack.packb({"data": b"\x00"}))))
    assert frame is not None
    assert unpacked(frame) == {"jsonrpc": "2.0", "id": "x", "result": {"content": [], "structuredContent": {"data": b"\x00"}}}


def test_batches_of_the_one_revision_that_has_them() -> None:
    session = opened(BATCHES)
    events = session.receive(msgpack.packb([request("ping", 1), request("no/such", 2), {"jsonrpc": "2.0"}, 5]))
    assert [one.get("error", {}).get("code", 0) for one in answer(events)] == [0, -32601, -32600, -32600]
    for size in (0, 65, 1 << 20):
        refusal = answer(session.receive(msgpack.Packer().pack_array_header(size) + b"\x01" * size))
        assert refusal["error"]["message"] == "a batch has 1 to 64 messages"
    for torn in (b"\x91", b"\xdd", b"\xdd\x00", b"\xdc\x00\x02\x01", b"\x92\x01"):
        assert answer(session.receive(torn))["error"]["code"] == -32700
    assert answer(opened().receive(msgpack.packb([request("ping")])))["error"]["code"] == -32600


@given(near_messages | json_values, st.sampled_from([*LEGACY, *MODERN]))
@settings(max_examples=400, deadline=None)
def test_a_message_means_what_it_does_in_json(message: Any, version: str) -> None:
    try:
        frame = msgpack.packb(message)
        text = json.dumps(message, allow_nan=False).encode()
        packed, spoken = opened(version), opened(version, packs=False)
        events, expected = packed.receive(frame), spoken.receive(text)
    except (OverflowError, ValueError):
        return  # integers beyond 64 bits, half a surrogate pair: MessagePack has not; infinities: JSON
    assert [type(event) for event in events] == [type(event) for event in expected]
    for ours, theirs in zip(events, expected, strict=True):
        if isinstance(ours, Answer) and isinstance(theirs, Answer):
            said = json.dumps(unpacked(ours.frame)).replace("`None`", "`null`")  # msgspec's word for nil
            assert json.loads(said) == json.loads(theirs.frame)
        elif isinstance(ours, Request) and isinstance(theirs, Request):
            if isinstance(ours.params, CallParams) and isinstance(theirs.params, CallParams):
                assert bytes(ours.params.arguments) == (
                    msgpack.packb(json.loads(bytes(theirs.params.arguments))) if bytes(theirs.params.arguments) else b""
                )
                ours.params.arguments = theirs.params.arguments = msgspec.Raw()
            assert ours == theirs


@given(frames | st.binary(max_size=300), st.sampled_from([*LEGACY, *MODERN]))
@settings(max_examples=600, deadline=None)
def test_any_bytes_are_events(frame: bytes, version: str) -> None:
    session = opened(version)
    for event in session.receive(frame):
        if isinstance(event, Answer):
            assert "error" in str(unpacked(event.frame)) or "result" in str(unpacked(event.frame))
        elif isinstance(event, Request):
            assert session.result(event.id, ToolResult.failed("x")) is not None


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_torn_or_spoilt_message_is_one_error_or_still_a_message(data: st.DataObject) -> None:
    frame = bytearray(msgpack.packb(request("tools/call", 7, name="look", arguments={"x": [1, 2.5, b"abc", {"y": None}]})))
    cut = data.draw(st.integers(0, len(frame) - 1))
    if torn := data.draw(st.booleans()):
        del frame[cut:]
    else:
        frame[cut] = data.draw(st.integers(0, 255))
    events = opened().receive(bytes(frame))
    assert len(events) <= 1
    if torn and cut > 30:
        assert answer(events)["error"]["code"] == -32700
        assert answer(events)["id"] == 7


def header(number: int, kind: str) -> bytes:
    return getattr(msgpack.Packer(), f"pack_{kind}_header")(number)  # type: ignore[no-any-return]


HEAD = b"\x84\xa7jsonrpc\xa32.0\xa2id\x07\xa6method\xaatools/list\xa6params"
WRONG: dict[str, tuple[bytes, int, int | None]] = {
    "nothing": (b"", -32700, None),
    "no such byte": (b"\xc1", -32700, None),
    "no map": (b"\x01", -32600, None),
    "torn": (HEAD, -32700, 7),
    "trailing bytes": (HEAD + b"\x80\x00", -32700, 7),
    "depth": (HEAD + b"\x91" * 1_000_000, -32700, 7),
    "depth of maps": (HEAD + b"\x81\xa0" * 500_000, -32700, 7),
    "a list of 2^32": (HEAD + b"\xdd\xff\xff\xff\xff", -32700, 7),
    "a map of 2^32": (HEAD + b"\xdf\xff\xff\xff\xff", -32700, 7),
    "a text of 2^32": (HEAD + b"\xdb\xff\xff\xff\xff", -32700, 7),
    "bin of 2^32": (HEAD + b"\xc6\xff\xff\xff\xff", -32700, 7),
    "ext of 2^32": (HEAD + b"\xc9\xff\xff\xff\xff\x01", -32700, 7),
    "lists in lists that claim too much": (HEAD + b"\xdd\x00\x0f\xff\xff" * 900, -32700, 7),
    "params no map": (HEAD + b"\x90", -32602, 7),
    "invalid UTF-8": (HEAD + b"\x81\xa6cursor\xa2\xff\xfe", -32602, 7),
    "a number for a text": (HEAD + b"\x81\xa6cursor\x01", -32602, 7),
    "bin for a text": (HEAD + b"\x81\xa6cursor\xc4\x01a", -32602, 7),
    "a key that is no text": (HEAD + b"\x81\x01\x02", -32602, 7),
    "an id that is bin": (b"\x83\xa7jsonrpc\xa32.0\xa2id\xc4\x01a\xa6method\xa4ping", -32600, None),
    "an id that is a fraction": (b"\x83\xa7jsonrpc\xa32.0\xa2id\xcb" + bytes(8) + b"\xa6method\xa4ping", -32600, None),
    "an id that is nil": (b"\x83\xa7jsonrpc\xa32.0\xa2id\xc0\xa6method\xa4ping", -32600, None),
    "a method that is bin": (b"\x83\xa7jsonrpc\xa32.0\xa2id\x07\xa6method\xc4\x04ping", -32600, 7),
    "another JSON-RPC": (b"\x83\xa7jsonrpc\xa31.0\xa2id\x07\xa6method\xa4ping", -32600, 7),
    "JSON": (b'{"jsonrpc":"2.0","id":7,"method":"ping"}', -32600, None),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_clear_error(name: str) -> None:
    frame, code, known = WRONG[name]
    refusal = answer(opened().receive(frame))
    assert refusal["error"]["code"] == code, refusal
    assert refusal.get("id") == known
    assert len(refusal["error"]["message"]) < 200


CAPABLE = b"\x83\xafprotocolVersion\xa1x\xaaclientInfo\x80\xaccapabilities\x81\xa1x"
VALUES = {
    "a timestamp": (b"\xd6\xff\x00\x00\x00\x01", "a timestamp is not what JSON has"),
    "a timestamp that is none": (b"\xc7\x0c\xff" + b"\xff" * 12, "nvalid MessagePack timestamp"),
    "an extension type": (b"\xd4\x05\x00", "an extension type is not what JSON has"),
    "NaN": (b"\xcb\x7f\xf8" + bytes(6), "NaN or infinite"),
    "infinity in a list": (b"\x92\xca\x7f\x80\x00\x00\x01", "NaN or infinite"),
    "a number as key": (b"\x81\x01\x02", "the key of a map must be a text, not an int"),
    "nil as key": (b"\x81\xc0\x02", "the key of a map must be a text, not nil"),
    "a list as key": (b"\x81\x91\x01\x02", "the key of a map must be a text, not a list"),
    "a map as key": (b"\x81\x80\x02", "map keys must be hashable"),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_json_has_not_is_refused(name: str) -> None:
    value, said = VALUES[name]
    hello = b"\x84\xa7jsonrpc\xa32.0\xa2id\x07\xa6method\xaainitialize\xa6params" + CAPABLE + value
    refusal = answer(Session(ABOUT, codec=MSGPACK).receive(hello))
    assert said in refusal["error"]["message"]
    assert (refusal["error"]["code"], refusal["id"]) == (-32602, 7)


def test_a_key_that_is_repeated_counts_as_in_json() -> None:
    """The last one does."""
    packed = b"\x84\xa7jsonrpc\xa32.0\xa2id\x07\xa2id\x08\xa6method\xa4ping"
    assert answer(opened().receive(packed))["id"] == 8
    (told,) = opened(packs=False).receive(b'{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}')
    assert isinstance(told, Answer)
    assert json.loads(told.frame)["id"] == 8


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)])
def test_large_integers_stay_what_they_are(number: int) -> None:
    assert answer(opened().receive(msgpack.packb(request("ping", number))))["id"] == number
    assert unpacked(MSGPACK.encode({"n": [number, 0.5]})) == {"n": [number, 0.5]}


def test_what_is_written_is_what_json_would_have() -> None:
    @dataclass
    class Reading:
        at: datetime
        values: tuple[float, ...]
        by: dict[int, set[str]]
        raw: bytes

    reading = Reading(datetime(2026, 1, 2, tzinfo=UTC), (1.0, math.nan, math.inf), {5: {"a"}}, b"\x00\xff")
    values = [reading, {"x": 10**30, "y": [10**400, 1.5], 7: None}, [2**64, 0.25], bytearray(b"1"), (1e308, 1e308), [True, 1]]
    for value in values:
        assert as_json(unpacked(MSGPACK.encode(value))) == json.loads(JSON.encode(value), parse_int=_small)
    assert unpacked(MSGPACK.encode(reading))["raw"] == b"\x00\xff"
    text, encoded = MSGPACK.told(reading)
    assert json.loads(text)["raw"] == "2 bytes"
    assert unpacked(encoded)["raw"] == b"\x00\xff"
    assert MSGPACK.plain({"a": [b"\x00", {"b": b""}], "c": 1.5}) == {"a": ["AA==", {"b": ""}], "c": 1.5}
    with pytest.raises(TypeError):
        MSGPACK.encode(object())


def _small(digits: str) -> float | int | None:
    """An integer beyond 64 bits becomes a float, and what is beyond those, null."""
    number = int(digits)
    if -(2**63) <= number < 2**64:
        return number
    return float(number) if abs(number) < 10**308 else None


@given(json_values)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_again(value: Any) -> None:
    try:
        expected = json.loads(JSON.encode({"v": value}), parse_int=_small)
    except UnicodeEncodeError:
        return
    encoded = MSGPACK.encode({"v": value})
    assert unpacked(encoded) == expected
    assert MSGPACK.decode(encoded, dict[str, Any]) == expected


def test_the_client_s_answers_have_what_json_has() -> None:
    session = opened()
    number, frame = session.call("sampling/createMessage", {"messages": [], "maxTokens": 1})
    assert unpacked(frame)["method"] == "sampling/createMessage"
    said = {"role": "assistant", "content": {"type": "image", "data": b"\x89P", "mimeType": "image/png"}}
    (event,) = session.receive(msgpack.packb({"jsonrpc": "2.0", "id": number, "result": said}))
    assert isinstance(event, Response)
    assert event.result is not None
    assert event.result["content"]["data"] == "iVA="
    number, _ = session.call("roots/list", {})
    (event,) = session.receive(
        msgpack.packb({"jsonrpc": "2.0", "id": number, "result": {"at": datetime.now(UTC)}}, datetime=True)
    )
    assert isinstance(event, Response)
    assert event.error is not None
    assert "a timestamp is not what JSON has" in event.error.message


BIG = b"A" * 100_000
OVERSIZED: list[tuple[dict[str, Any] | bytes, Any]] = [
    ({"jsonrpc": "2.0", "id": 12, "method": "tools/call", "params": {"arguments": {"image": BIG}}}, 12),
    ({"method": "tools/call", "params": {"arguments": {"image": BIG}}, "jsonrpc": "2.0", "id": "x-1"}, "x-1"),
    ({"method": "tools/call", "params": {"arguments": {"image": BIG}}, "id": -5, "jsonrpc": "2.0"}, -5),
    ({"method": "tools/call", "params": {"arguments": {"image": BIG, "id": 5}}, "id": 6, "jsonrpc": "2.0"}, 6),
    ({"id": 2**64 - 1, "params": {"arguments": {"image": BIG}}}, 2**64 - 1),
    ({"method": "tools/call", "params": {"arguments": {"image": BIG, "id": 5}}}, None),
    ({"method": "tools/call", "params": {"id": 5, "arguments": {"image": BIG}}, "jsonrpc": "2.0"}, None),
    ({"method": "tools/call", "params": {"arguments": BIG}, "jsonrpc": "2.0", "id": b"bin"}, None),
    (BIG, None),
    (b"\x84" + BIG, None),
]


@pytest.mark.parametrize(("message", "known"), OVERSIZED)
def test_an_oversized_request_is_answered_by_its_id_where_that_can_be_seen(message: Any, known: Any) -> None:
    whole = message if isinstance(message, bytes) else msgpack.packb(message)
    refusal = answer(opened().receive(Oversized(whole[:EDGE], whole[-EDGE:], len(whole), 50_000)))
    assert refusal["error"]["code"] == -32600
    assert "max_message_mb" in refusal["error"]["message"]
    assert refusal.get("id") == known


@pytest.mark.parametrize(
    "unit", [b"\xa2id\x01", b"\xa2id", b"\x91", b"\x81\xa0", b"\xdf\xff\xff\xff\xff", b"\xa0", b"\xc4", b"\x00"]
)
@pytest.mark.parametrize("before", [b"", b"\x84", b"\xdf\xff\xff\xff\xff", b"\x84\xa6params\xc6\xff\xff\xff\xff"])
def test_an_id_is_looked_for_in_time_that_a_peer_cannot_stretch(unit: bytes, before: bytes) -> None:
    edge = (before + unit * EDGE)[:EDGE]
    began = time.process_time()
    for _ in range(3):
        MSGPACK.find_id(edge, edge)
    assert time.process_time() - began < 0.2


def test_what_would_take_a_hundred_times_its_bytes_is_refused() -> None:
    many = header(1 << 21, "array") + b"\x90" * (1 << 21)
    with pytest.raises(msgspec.ValidationError, match=f"more than {MAX_OBJECTS} lists"):
        MSGPACK.decode(many, object)
    names = header(1 << 20, "map") + b"".join(b"\xa3%03x\xa0" % (number & 0xFFF) for number in range(1 << 20))
    with pytest.raises(msgspec.ValidationError):
        MSGPACK.decode(b"\x82\xa4name\xa1x\xa9arguments" + names, PromptParams)
    numbers = msgpack.packb({"x": [0.5] * 300_000, "y": list(range(SMALL)), "z": bytes(1 << 21)})
    assert len(MSGPACK.decode(numbers, dict[str, Any])["y"]) == SMALL
    arguments = MSGPACK.decode(b"\x82\xa4name\xa1x\xa9arguments" + many, CallParams).arguments  # not decoded here
    assert memoryview(arguments).nbytes == len(many)


def test_hostile_bytes_take_little_memory() -> None:
    """Each of these is 4 MB, or claims to be much more."""
    code = """
import resource, sys
from edge_mcp.protocol import jsonrpc
from edge_mcp.protocol.messagepack import MSGPACK
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
size = 1 << 22
nested = b"\\xdd\\x00\\x3f\\xff\\xff", b"\\xdf\\x00\\x1f\\xff\\xff"
for unit in (b"\\x90", b"\\x80", b"\\xa2ab", b"\\x91\\x90", b"\\x81\\xa1a\\x80", *nested):
    for head in (b"\\xdd" + (size // len(unit)).to_bytes(4), b"\\xdd\\xff\\xff\\xff\\xff", b""):
        try:
            MSGPACK.decode(head + unit * (size // len(unit)), object)
        except jsonrpc.UNDECODABLE as error:
            assert not isinstance(error, MemoryError)
        else:
            raise SystemExit(f"{unit} was decoded")
"""
    limit = 300 * 1024 * 1024
    assert resource.getrlimit(resource.RLIMIT_AS)[0] in (-1, resource.RLIM_INFINITY)
    done = subprocess.run([sys.executable, "-c", code, str(limit)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
