"""Coverage-guided fuzzing of what reads a peer's bytes first: `scripts/fuzz`. What no peer may cause is a finding."""

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports():
    from multidict import CIMultiDict

    from edge_mcp.discovery.advert import advert_of
    from edge_mcp.engine.channel import Deframer
    from edge_mcp.engine.messages import Reply
    from edge_mcp.errors import ChannelError
    from edge_mcp.protocol import headers, jsonrpc
    from edge_mcp.protocol.codec import JSON
    from edge_mcp.protocol.messagepack import MSGPACK
    from edge_mcp.protocol.messages import Implementation, ToolResult
    from edge_mcp.protocol.session import About, Request, Session
    from edge_mcp.protocol.versions import BATCHES, LEGACY, MODERN
    from edge_mcp.transports.stdio import Lines

ABOUT = About(Implementation("fuzzed", "1"), {"tools": {}, "resources": {}, "prompts": {}, "completions": {}, "logging": {}})
NAMES = ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-Region", "Accept", "Content-Type", "Content-Length"]
OPENINGS: list[bytes] = [b""] + [
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"%s","capabilities":{},'
    b'"clientInfo":{"name":"c","version":"1"}}}' % version.encode()
    for version in LEGACY
]


def session(data: bytes) -> None:
    """Any frames, in any era, are events; every request can be answered."""
    provider = atheris.FuzzedDataProvider(data)
    conversation = Session(ABOUT)
    if opening := OPENINGS[provider.ConsumeIntInRange(0, len(OPENINGS) - 1)]:
        conversation.receive(opening)
    for frame in provider.ConsumeBytes(provider.remaining_bytes()).split(b"\n"):
        for event in conversation.receive(frame):
            if isinstance(event, Request):
                conversation.result(event.id, ToolResult.failed("x"))


def packed(data: bytes) -> None:
    """As `session`, in MessagePack; and an id is looked for in any edges."""
    provider = atheris.FuzzedDataProvider(data)
    conversation = Session(ABOUT, provider.PickValueInList([None, BATCHES, LEGACY[-1]]), MSGPACK)
    head = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 64))
    frame = provider.ConsumeBytes(provider.remaining_bytes())
    MSGPACK.find_id(head, frame)
    for event in conversation.receive(frame):
        if isinstance(event, Request):
            conversation.result(event.id, ToolResult.failed("x"))


def value(data: bytes) -> None:
    """Any bytes are what JSON has, with bytes, or refused; what is written of it is read again as the same."""
    try:
        decoded = MSGPACK.decode(data, object)
    except jsonrpc.UNDECODABLE:
        return
    assert MSGPACK.decode(MSGPACK.encode(decoded), object) == decoded
    JSON.encode(MSGPACK.plain(decoded))


def ladder(data: bytes) -> None:
    """Any header fields and body are a message or a refusal."""
    provider = atheris.FuzzedDataProvider(data)
    fields: CIMultiDict[str] = CIMultiDict()
    if provider.ConsumeBool():
        fields.add("MCP-Protocol-Version", provider.PickValueInList([*LEGACY, *MODERN, BATCHES]))
    for _ in range(provider.ConsumeIntInRange(0, 6)):
        fields.add(provider.PickValueInList(NAMES), provider.ConsumeUnicode(40))
    headers.check_content(fields, 1000)
    headers.check_accept(fields, headers.JSON, headers.EVENTS)
    headers.check_stream(fields)
    accepted = headers.route(fields, provider.ConsumeBytes(provider.remaining_bytes()))
    if isinstance(accepted, headers.Refusal):
        assert accepted.body
        assert 400 <= accepted.status < 500


def channel(data: bytes) -> None:
    """Any bytes on the engine's channel are messages or a ChannelError."""
    deframer: Deframer[Reply] = Deframer(Reply, max_frame=10_000)
    try:
        deframer.feed(data)
        deframer.finish()
    except ChannelError:
        return


def lines(data: bytes) -> None:
    """However bytes are cut, the lines are the same."""
    provider = atheris.FuzzedDataProvider(data)
    size = provider.ConsumeIntInRange(1, 50)
    stream = provider.ConsumeBytes(provider.remaining_bytes())
    whole, cut = Lines(64), Lines(64)
    expected = whole.feed(stream) + whole.finish()
    got = [frame for at in range(0, len(stream), size) for frame in cut.feed(stream[at : at + size])] + cut.finish()
    assert [frame if isinstance(frame, bytes) else frame.size for frame in got] == [
        frame if isinstance(frame, bytes) else frame.size for frame in expected
    ]


def advert(data: bytes) -> None:
    """Any TXT record is an advert or none, and what is one says the same again."""
    pairs = [part.partition(b"=") for part in data.split(b"\n")]
    said = advert_of({b"id": b"3f2a" * 4, **{key: value if sign else None for key, sign, value in pairs}})
    if said is not None:
        assert advert_of({key.encode(): value.encode() for key, value in said.encoded().items()}) == said


TARGETS: dict[str, Callable[[bytes], None]] = {
    "session": session,
    "packed": packed,
    "value": value,
    "ladder": ladder,
    "channel": channel,
    "lines": lines,
    "advert": advert,
}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
