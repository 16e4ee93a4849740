"""The frames between server and engine."""

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mcp.engine.channel import Channel, Deframer, encode
from edge_mcp.engine.messages import Failed, Item, Loaded, Outcome, Ran, Reply, Request, Run
from edge_mcp.errors import ChannelError

REPLIES: list[Reply] = [Loaded(1.5), Failed("no", "yes"), Ran([Outcome(b"[]", b"{}"), Outcome(error="x")], 0.25)]


def test_messages_survive_the_way_however_the_bytes_are_cut() -> None:
    stream = b"".join(encode(reply) for reply in REPLIES)
    for size in (1, 2, 3, 7, len(stream)):
        deframer: Deframer[Reply] = Deframer(Reply)
        got = [reply for at in range(0, len(stream), size) for reply in deframer.feed(stream[at : at + size])]
        assert got == REPLIES
        deframer.finish()


def test_a_torn_frame_is_named() -> None:
    deframer: Deframer[Reply] = Deframer(Reply)
    assert deframer.feed(bytes(encode(Loaded(1.0)))[:-1]) == []
    with pytest.raises(ChannelError, match="torn frame"):
        deframer.finish()


def test_an_oversized_frame_is_named_before_it_is_kept() -> None:
    deframer: Deframer[Reply] = Deframer(Reply, max_frame=100)
    with pytest.raises(ChannelError, match="oversized frame: 101 bytes announced, at most 100"):
        deframer.feed((101).to_bytes(4))


def test_an_undecodable_frame_is_named() -> None:
    deframer: Deframer[Reply] = Deframer(Reply)
    with pytest.raises(ChannelError, match="undecodable frame of 3 bytes"):
        deframer.feed((3).to_bytes(4) + b"\xc1\xc1\xc1")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=64), max_size=8))
def test_any_bytes_give_messages_or_a_channel_error(chunks: list[bytes]) -> None:
    deframer: Deframer[Reply] = Deframer(Reply, max_frame=1000)
    try:
        for chunk in chunks:
            for reply in deframer.feed(chunk):
                assert isinstance(reply, Reply)
        deframer.finish()
    except ChannelError as error:
        assert "frame" in str(error)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_the_blocking_side_a_message_an_end_or_a_channel_error(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        channel: Channel[Request] = Channel(theirs, Request, max_frame=1000)
        try:
            while channel.receive() is not None:
                continue
        except ChannelError as error:
            assert "frame" in str(error)


def test_the_blocking_side_reads_large_frames_whole_and_then_the_end() -> None:
    ours, theirs = socket.socketpair()
    message = Run(7, "m", [Item(b"x" * 3_000_000, roots=("/a",))])
    with theirs:
        channel: Channel[Request] = Channel(theirs, Request)

        def send() -> None:
            with ours:
                ours.sendall(encode(message))

        sender = threading.Thread(target=send)
        sender.start()
        assert channel.receive() == message
        assert channel.receive() is None
        sender.join(5)


def test_the_blocking_side_names_a_torn_frame() -> None:
    for cut in (2, 10):
        ours, theirs = socket.socketpair()
        with theirs:
            with ours:
                ours.sendall(bytes(encode(Run(1, "m", [])))[:cut])
            with pytest.raises(ChannelError, match="torn frame"):
                Channel[Request](theirs, Request).receive()
