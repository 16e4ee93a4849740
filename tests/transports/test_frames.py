"""RFC 6455 as bytes: whatever pieces frames come in, and whatever breaks the rules."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.transports import frames
from edge_mcp.transports.frames import BINARY, CLOSE, PING, TEXT, Event, Reader, Violation, close_of, closing, frame, xor_slowly

LIMIT = 100_000


def read(data: bytes, reader: Reader | None = None, step: int = 0) -> list[Event]:
    """What comes of the bytes, fed `step` at a time (0: all at once)."""
    reader = reader or Reader(LIMIT)
    step = step or max(1, len(data))
    return [event for at in range(0, len(data), step) for event in reader.feed(data[at : at + step])]


def broken(data: bytes, reader: Reader | None = None) -> Violation:
    with pytest.raises(Violation) as error:
        read(data, reader)
    return error.value


def piece(opcode: int, payload: bytes, fin: bool = False) -> bytes:
    """A client's frame, of a mask of zeros."""
    whole = bytearray(frame(opcode, payload, masked=True))
    whole[0] = whole[0] if fin else whole[0] & 0x7F
    return bytes(whole)


@given(
    st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.binary(max_size=120)), max_size=6),
    st.integers(1, 40),
    st.booleans(),
)
def test_what_one_side_writes_the_other_reads(sent: list[tuple[int, bytes]], step: int, masked: bool) -> None:
    sent = [(opcode, payload.hex()[:100].encode() if opcode == TEXT else payload) for opcode, payload in sent]
    wire = b"".join(frame(opcode, payload, masked=masked) for opcode, payload in sent)
    assert read(wire, Reader(LIMIT, masked), step) == sent


@given(st.binary(max_size=200))
def test_any_bytes_end_in_messages_or_a_violation(data: bytes) -> None:
    reader = Reader(50)
    try:
        for at in range(0, len(data), 3):
            assert all(len(payload) <= 125 for _, payload in reader.feed(data[at : at + 3]))
            assert reader.held <= 2 * 125
    except Violation as violation:
        assert violation.code in (1002, 1007, 1008, 1009)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, LIMIT])
def test_every_form_of_length(size: int) -> None:
    payload = os.urandom(size)
    assert read(frame(BINARY, payload, masked=True)) == [(BINARY, payload)]


def test_too_large_is_known_before_it_comes() -> None:
    assert broken(frame(BINARY, bytes(LIMIT + 1), masked=True)[:14]).code == 1009
    huge = bytes((0x82, 0xFF)) + (2**63 - 1).to_bytes(8) + bytes(4)
    assert broken(huge).code == 1009
    reader = Reader(LIMIT)
    read(piece(BINARY, bytes(LIMIT)), reader)
    assert broken(piece(0, b"x")[:6], reader).code == 1009


def test_a_message_in_many_pieces_costs_its_bytes() -> None:
    reader = Reader(LIMIT)
    wire = piece(TEXT, b"a") + piece(0, b"a") * 99_998
    assert read(wire, reader, 65536) == []
    assert reader.held == 99_999
    assert read(piece(0, b"a", fin=True), reader) == [(TEXT, b"a" * LIMIT)]
    assert reader.held == 0


def test_empty_pieces_are_bounded() -> None:
    reader = Reader(LIMIT)
    read(piece(TEXT, b"") + piece(0, b"") * (frames.MAX_EMPTY - 1), reader)
    assert broken(piece(0, b""), reader).code == 1008


def test_nothing_counts_after_the_close() -> None:
    reader = Reader(LIMIT)
    end = frame(CLOSE, closing(1000, "bye"), masked=True)
    assert [opcode for opcode, _ in read(end + frame(TEXT, b"x", masked=True), reader)] == [CLOSE]
    assert read(b"\xff" * 10, reader) == []
    assert reader.ended


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 1000])
def test_the_slow_mask_is_the_fast_one(size: int) -> None:
    mask, data = os.urandom(4), os.urandom(size)
    slow, fast = bytearray(data), bytearray(data)
    xor_slowly(mask, slow)
    frames.xor(mask, fast)
    assert slow == fast
    assert bytes(slow) == bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def test_a_long_reason_is_cut_at_a_character() -> None:
    payload = closing(1000, "ä" * 100)
    assert len(payload) <= 125
    assert close_of(payload) == (1000, "ä" * 61)


@given(st.text(max_size=40).map(str.encode), st.integers(0, 50), st.binary(max_size=4))
def test_text_is_what_python_takes_for_it(text: bytes, at: int, wrong: bytes) -> None:
    data = text[:at] + wrong + text[at:]
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not frames.is_text(data)
    else:
        assert frames.is_text(data)
