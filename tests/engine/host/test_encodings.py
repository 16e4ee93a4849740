"""Arguments from JSON and from MessagePack give equal results, for every modality."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest

from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.messages import Item, Outcome
from tests import onnx_files
from tests.engine.host.test_odd_tools import Tool
from tests.packing import BINARY, as_json, packed, unpacked
from tests.processes import ROOT

Load = Callable[[str], ServedModel]
FIXTURES = ROOT / "tests/fixtures"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file(name: str) -> str:
    return b64((FIXTURES / name).read_bytes())


def tensor(values: Any) -> dict[str, Any]:
    array = np.asarray(values, "<f4")
    return {"dtype": "FP32", "shape": list(array.shape), "data": b64(array.tobytes())}


def answered(model: ServedModel, item: Item) -> Outcome:
    (outcome,), _ = model.run([item], lambda stage: None)
    assert not outcome.error, outcome.error
    return outcome


def timeless(structured: Any) -> Any:
    assert structured.pop("inference_ms") >= 0
    return structured


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("object-detector", {"image": file("chelsea.png")}),
    ("object-detector", {"image": file("chelsea.png"), "annotate": True, "threshold": 0}),
    ("image-classifier", {"image": file("coffee.png"), "max_results": 3}),
    ("face-detector", {"image": "data:image/png;base64," + file("astronaut.png")}),
    ("text-reader", {"image": file("page.png"), "annotate": True}),
    ("language-detector", {"text": "Guten Morgen, wie geht es Ihnen? \U0001f642"}),
    ("file-identifier", {"data": file("flower.jpg")}),
    ("speech-detector", {"audio": file("sounds/goforward.wav"), "scores": True}),
    ("wake-word-detector", {"audio": file("sounds/en-us_okay_nabu.flac")}),
    ("sine_float.tflite", {"dense_input": [[1.5708], [0]]}),
    ("sine_float.tflite", {"dense_input": {"dtype": "FP32", "shape": [2, 1], "data": [1, 2.5]}, "encoding": "base64"}),
    ("sine_float.tflite", {"dense_input": tensor([[1.5], [0.0], [-3.25]])}),
    ("sine_float.tflite", {"dense_input": tensor([[1.5]]), "encoding": "list"}),
    ("mlp_int8.onnx", {"input": tensor(np.linspace(-1, 1, 980).reshape(2, 490))}),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS)
@pytest.mark.parametrize("binary", [BINARY, ()])
def test_a_model_answers_the_same(served: Load, name: str, arguments: dict[str, Any], binary: tuple[str, ...]) -> None:
    """With base64 as bin, and with base64 as text."""
    items = Item(json.dumps(arguments).encode()), Item(packed(arguments, binary), "msgpack")
    ours, theirs = (answered(served(name), item) for item in items)
    assert as_json(timeless(unpacked(theirs.structured))) == timeless(json.loads(ours.structured))
    blocks, same = json.loads(ours.content), unpacked(theirs.content)
    for block in (blocks[0], same[0]):
        block["text"] = timeless(json.loads(block["text"]))
    if "outputs" in blocks[0]["text"]:  # bytes are not sent as text once more
        blocks[0]["text"] = same[0]["text"] = "" if isinstance(found_data(theirs), bytes) else blocks[0]["text"]
    assert as_json(same) == blocks
    assert all(isinstance(block["data"], bytes) for block in same[1:])


def found_data(outcome: Outcome) -> Any:
    (output,) = unpacked(outcome.structured)["outputs"].values()
    return output["data"]


def test_tensors_are_bytes_both_ways(served: Load) -> None:
    rows = np.array([[1.5], [0.0]], "<f4")
    arguments = {"dense_input": {"dtype": "FP32", "shape": [2, 1], "data": rows.tobytes()}}
    outcome = answered(served("sine_float.tflite"), Item(msgpack.packb(arguments), "msgpack"))
    data = found_data(outcome)
    assert np.frombuffer(data, "<f4") == pytest.approx(np.sin(rows[:, 0]), abs=0.1)
    (block,) = unpacked(outcome.content)
    assert '"data":"8 bytes"' in block["text"]


def test_every_type_of_tensor_is_the_same(tmp_path: Path) -> None:
    odd = Tool(tmp_path, onnx_files.identity(*range(1, 14)))
    kinds = ["FP32", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BYTES", "BOOL", "FP16", "FP64", "UINT32", "UINT64"]
    values: dict[str, Any] = {"BYTES": ["\u00fc", ""], "BOOL": [True, False], "UINT64": [2**64 - 1, 0], "INT64": [-(2**63), 1]}
    lists = {f"x{index}": values.get(kind, [0, 1]) for index, kind in enumerate(kinds)}
    for encoding in ("list", "base64"):
        expected = odd({**lists, "encoding": encoding})
        given = Item(msgpack.packb({**lists, "encoding": encoding}), "msgpack")
        outputs = unpacked(answered(odd.served, given).structured)["outputs"]
        assert as_json(outputs) == expected
        again = {f"x{name[1:]}": output for name, output in outputs.items()}
        item = Item(msgpack.packb({**again, "encoding": encoding}), "msgpack")
        assert as_json(unpacked(answered(odd.served, item).structured)["outputs"]) == expected


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    odd = Tool(tmp_path, onnx_files.identity(1))
    data = np.array([np.nan, -np.inf], "<f4").tobytes()
    item = Item(msgpack.packb({"x0": {"dtype": "FP32", "shape": [2], "data": data}, "encoding": "list"}), "msgpack")
    assert unpacked(answered(odd.served, item).structured)["outputs"]["y0"]["data"] == [None, None]


def test_one_run_has_calls_of_both_encodings(served: Load) -> None:
    rows = [{"dense_input": tensor([[number / 2]])} for number in range(6)]
    items = [Item(packed(row), "msgpack") if index % 2 else Item(json.dumps(row).encode()) for index, row in enumerate(rows)]
    outcomes, _ = served("sine_float.tflite").run(items, lambda stage: None)
    answers = [
        as_json(unpacked(one.structured)) if index % 2 else json.loads(one.structured) for index, one in enumerate(outcomes)
    ]
    alone = [json.loads(answered(served("sine_float.tflite"), Item(json.dumps(row).encode())).structured) for row in rows]
    assert [one["outputs"] for one in answers] == [one["outputs"] for one in alone]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (b"", "argument text is missing"),
        (b"\x90", "must be an object, not a list of 0"),
        (b"\xc0", "must be an object, not null"),
        (b"\xc4\x01a", "must be an object, not 1 bytes"),
        (b"\x81\xa4text\xc4\x02hi", "argument text must be a string, not 2 bytes"),
        (b"\x81\xa4text\xc4", "not valid MessagePack"),
        (b"\x80\x80", "not valid MessagePack"),
        (b"\x81\xa4text\xa2\xff\xfe", "not valid MessagePack"),
        (b"\x81\x01\x02", "the key of a map must be a text, not an int"),
        (b"\x81\xa4text\x81\xc4\x01a\x02", "the key of a map must be a text, not bin"),
        (b"\x81\xa4text\x91\xd6\xff\x00\x00\x00\x01", "a timestamp is not what JSON has"),
        (b"\x81\xa4text\xd4\x05\x00", "an extension type is not what JSON has"),
        (b"\x82\xa4text\xa1a\xa9threshold\xcb\x7f\xf8" + bytes(6), "NaN or infinite"),
        (b"\x81\xa4text\x92\x01\xca\x7f\x80\x00\x00", "NaN or infinite"),
        (b"\x81\xa4text" + b"\x91" * 100_000, "not valid MessagePack"),
        (b"\x81\xa4text\xdd\xff\xff\xff\xff", "not valid MessagePack"),
        (b"\x81\xa4text\xdf\xff\xff\xff\xff", "not valid MessagePack"),
        (b"\x81\xa4text\xc6\xff\xff\xff\xff", "not valid MessagePack"),
        (b"\x81\xa4text\xdb\xff\xff\xff\xff", "not valid MessagePack"),
        (b"\x81\xa4text\xc9\xff\xff\xff\xff\x01", "not valid MessagePack"),
        (b"\x81\xa4text\xdd\x00\x20\x00\x00" + b"\x90" * (1 << 21), "more than 1048576 lists, maps and texts"),
    ],
)
def test_what_is_wrong_is_one_error(served: Load, arguments: bytes, said: str) -> None:
    (outcome,), _ = served("language-detector").run([Item(arguments, "msgpack")], lambda stage: None)
    assert said in outcome.error
    assert len(outcome.error) < 300


def test_bytes_stand_only_where_base64_does(served: Load) -> None:
    for arguments in ({"dense_input": b"1234"}, {"dense_input": [[b"1"]]}, {"dense_input": [[1.0]], "encoding": b"list"}):
        (outcome,), _ = served("sine_float.tflite").run([Item(msgpack.packb(arguments), "msgpack")], lambda stage: None)
        assert outcome.error.startswith("argument ")
    whole = {"dense_input": {"dtype": b"FP32", "shape": [1], "data": b"1234"}}
    (outcome,), _ = served("sine_float.tflite").run([Item(msgpack.packb(whole), "msgpack")], lambda stage: None)
    assert "argument dense_input.dtype must be a string, not 4 bytes" in outcome.error
