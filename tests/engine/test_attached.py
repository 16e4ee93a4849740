"""What a sensor gave travels beside the arguments, as bytes."""

import msgspec
import pytest

from edge_mcp.engine.host.modalities.payload import read_payload
from edge_mcp.engine.host.served import decoded
from edge_mcp.engine.host.validate import validate
from edge_mcp.engine.messages import Item, Run
from edge_mcp.engine.suspects import fingerprint
from edge_mcp.errors import ArgumentError

IMAGE = {"type": "string", "contentEncoding": "base64"}
SCHEMA = {"properties": {"image": IMAGE, "x": {"type": "integer"}}, "required": ["image"]}


def test_bytes_take_the_place_of_the_argument_that_named_the_sensor() -> None:
    item = Item(b'{"image": "sensor://door", "x": 1}', attached={"image": b"\x00\xff"})
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(Run(1, "m", [item])), type=Run).items[0]
    arguments = validate(SCHEMA, decoded(sent))
    assert arguments == {"image": b"\x00\xff", "x": 1}
    assert read_payload(arguments["image"], []) == b"\x00\xff"
    assert decoded(Item(b"[]", attached={"image": b""})) == []


def test_another_picture_is_another_request() -> None:
    """One that crashed the engine must not have the sensor refused for good."""
    prints = {fingerprint("m", [Item(b"{}", attached=attached)]) for attached in ({}, {"image": b"1"}, {"image": b"2"})}
    assert len(prints) == 3


def test_a_sensor_that_reaches_the_engine_by_name_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no such sensor is configured for this argument"):
        read_payload("sensor://door", [])
