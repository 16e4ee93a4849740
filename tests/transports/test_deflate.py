"""permessage-deflate: what is agreed on, what is compressed, and what cannot be unpacked."""

import base64
import json
import os
import random
import zlib
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from edge_mcp.transports.compressors import SLICE, Compressors, Inflater
from edge_mcp.transports.deflate import FULL, LEAST, NO_TAKEOVER, OFF, TEXT_ONLY, Choice, agree, is_packed
from edge_mcp.transports.frames import Violation

LIMIT = 1_000_000
TAIL = b"\x00\x00\xff\xff"


@pytest.fixture(params=[zlib, isal_zlib], ids=["zlib", "isal"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate; client_max_window_bits", "server_max_window_bits=12; client_max_window_bits=12"),
        ("permessage-deflate", "server_max_window_bits=12; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=10; client_max_window_bits=9",
         "server_max_window_bits=10; client_max_window_bits=9"),
        ('permessage-deflate; server_max_window_bits="9"', "server_max_window_bits=9; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=15; server_no_context_takeover; client_max_window_bits=15",
         "server_max_window_bits=12; client_max_window_bits=12; server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits",
         "server_max_window_bits=12; client_max_window_bits=12"),
        ("foo, bar; baz=2, permessage-deflate", "server_max_window_bits=12; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits=\u0661\u0662", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; unheard_of", None),
    ],
)  # fmt: skip
def test_what_is_agreed_on(offers: str, answer: str | None) -> None:
    agreed = agree(offers)
    assert (agreed and agreed.header()) == (answer and f"permessage-deflate; {answer}")


@given(st.text(max_size=80))
def test_any_offer_is_answered_or_not(text: str) -> None:
    agree(text)
    agree(f"permessage-deflate; {text}")


def detections(seed: int, count: int = 30) -> bytes:
    chance = random.Random(seed)
    return json.dumps([{"label": "person", "score": chance.random()} for _ in range(count)]).encode()


def packed(compressors: Compressors, message: bytes, fresh: bool = False, owner: object = "a") -> bytes:
    return b"".join(compressors.pieces(owner, message, 12, fresh))


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("most", [0, 1, 8])
def test_what_is_compressed_is_read_whatever_was_given_back_meanwhile(library: ModuleType, fresh: bool, most: int) -> None:
    compressors = Compressors(library, most)
    readers = {owner: zlib.decompressobj(-12) for owner in "abc"}
    for number in range(30):
        owner = "abc"[number % 3]
        message = detections(number, 3 + number * (100 if number % 7 == 0 else 1)) + os.urandom(number * 10)
        wire = packed(compressors, message, fresh and number % 2 == 0, owner)
        assert readers[owner].decompress(wire + TAIL) == message
        if number % 5 == 0:
            compressors.forget(owner)
        assert len(compressors) <= most


def test_long_messages_of_several_peers_may_be_compressed_at_once(library: ModuleType) -> None:
    compressors = Compressors(library)
    messages = [os.urandom(SLICE).hex().encode() for _ in range(3)]
    makers = [compressors.pieces(number, message, 12, fresh=True) for number, message in enumerate(messages)]
    wires = [b""] * 3
    for pieces in zip(*makers, strict=True):
        wires = [wire + piece for wire, piece in zip(wires, pieces, strict=True)]
    for wire, message in zip(wires, messages, strict=True):
        assert zlib.decompressobj(-12).decompress(wire + TAIL) == message


def test_a_history_makes_messages_smaller(library: ModuleType) -> None:
    compressors = Compressors(library)
    first, again = packed(compressors, detections(1)), packed(compressors, detections(1))
    assert len(again) < len(first) / 4
    assert len(packed(compressors, detections(1), fresh=True)) > len(again)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_peers_pieces_are_unpacked(fresh: bool) -> None:
    inflater = Inflater(12, fresh, LIMIT)
    compressor = zlib.compressobj(wbits=-12)
    for number in range(5):
        compressor = zlib.compressobj(wbits=-12) if fresh else compressor
        message = detections(number)
        wire = (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        said = inflater.inflate(wire[:100], False, LIMIT)
        assert said + inflater.inflate(wire[100:], True, LIMIT - len(said)) == message
    assert (inflater.held == 0) is fresh


def test_a_bomb_is_stopped_where_the_limit_is() -> None:
    compressor = zlib.compressobj(wbits=-15)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(200)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(Violation) as error:
        Inflater(15, True, LIMIT).inflate(bomb, True, LIMIT)
    assert error.value.code == 1009


def test_a_message_of_just_the_limit_is_read() -> None:
    wire = zlib.compressobj(wbits=-15)
    data = (wire.compress(bytes(LIMIT)) + wire.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    assert len(Inflater(15, True, LIMIT).inflate(data, True, LIMIT)) == LIMIT


def test_a_last_block_ends_nothing_but_many_of_them_do() -> None:
    compressor = zlib.compressobj(wbits=-12)
    ended = compressor.compress(b"one ") + compressor.flush()  # BFINAL (RFC 7692, 7.2.3.4)
    inflater = Inflater(12, False, LIMIT)
    assert inflater.inflate(ended + b"\x00", True, LIMIT) == b"one "
    with pytest.raises(Violation) as error:
        inflater.inflate(b"\x03\x00" * 100, True, LIMIT)
    assert error.value.code == 1007


@given(st.binary(max_size=300))
def test_any_bytes_are_unpacked_or_refused(data: bytes) -> None:
    try:
        assert len(Inflater(12, False, 1000).inflate(data, True, 1000)) <= 1000
    except Violation as violation:
        assert violation.code in (1007, 1009)


TEXT = detections(1, 100)
PICTURE = json.dumps({"data": base64.b64encode(os.urandom(20_000)).decode()}).encode()


def test_what_looks_packed() -> None:
    assert not is_packed(TEXT)
    assert not is_packed("Ein längerer Text über alles Mögliche, 漢字も. ".encode() * 50)
    assert is_packed(PICTURE)
    assert is_packed(b"\x81\xa4data\xc5\x4e\x20" + os.urandom(20_000))


@pytest.mark.parametrize(
    ("allowed", "text", "picture"),
    [(FULL, True, True), (TEXT_ONLY, True, False), (NO_TAKEOVER, True, False), (OFF, False, False)],
)
def test_load_decides_what_is_tried(allowed: str, text: bool, picture: bool) -> None:
    assert Choice().wants(TEXT, allowed) is text
    assert Choice().wants(PICTURE, allowed) is picture
    assert not Choice().wants(TEXT[: LEAST - 1], allowed)


def test_what_does_not_shrink_is_tried_less_and_less() -> None:
    choice = Choice()
    tried = 0
    for _ in range(1000):
        if choice.wants(PICTURE, FULL):
            tried += 1
            choice.came(PICTURE, len(PICTURE) - 1)
    assert tried < 25
    assert choice.wants(TEXT, FULL)  # each kind for itself
    while not choice.wants(PICTURE, FULL):
        pass
    assert choice.came(PICTURE, len(PICTURE) // 2)
    assert choice.wants(PICTURE, FULL)


def test_what_became_larger_is_not_sent_so() -> None:
    assert not Choice().came(TEXT, len(TEXT) + 5)
    assert Choice().came(TEXT, len(TEXT) - 5)
