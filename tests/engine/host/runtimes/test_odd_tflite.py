"""Signatures that TFLite files have, and those that are refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.litert import LitertModel, LitertRuntime
from edge_mcp.engine.messages import Quantization
from edge_mcp.errors import ArgumentError, ModelError
from tests.tflite_files import Graph, Signature, Tensor, add, model

FIVE, ONE = np.full((1, 2), 5, np.float32), np.ones((1, 2), np.float32)


def load(folder: Path, content: bytes, signature: str = "") -> LitertModel:
    path = folder / "odd.tflite"
    path.write_bytes(content)
    return LitertRuntime().load(path, RuntimeOptions(signature=signature))


def refusal(folder: Path, content: bytes, signature: str = "") -> str:
    with pytest.raises(ModelError) as caught:
        load(folder, content, signature)
    said = str(caught.value)
    assert said.startswith("odd.tflite")
    assert "\n" not in said
    assert len(said) < 600
    return said


def subtract() -> Graph:
    """c = a - b, of any number of rows; its tensors have the same places as those of `add`."""
    tensors = [Tensor(name, "float32", (1, 2), (-1, 2)) for name in "abc"]
    return Graph(tensors, [("SUB", [0, 1], [2], schema.SubOptionsT())], [0, 1], [2], "minus")


def several(*keys: str) -> bytes:
    graphs = [add(), subtract()]
    return model(graphs, [Signature(key, {"p": 0, "q": 1}, {"r": 2}, index) for index, key in enumerate(keys)])


@pytest.mark.parametrize(("wanted", "result"), [("plus", 6), ("minus", 4), ("", 6)])
def test_the_signature_that_is_wanted(tmp_path: Path, wanted: str, result: int) -> None:
    odd = load(tmp_path, several("plus", "minus"), wanted)
    assert odd.signatures == ("plus", "minus")
    assert [spec.name for spec in (*odd.inputs, *odd.outputs)] == ["p", "q", "r"]
    for _ in range(3):
        assert odd.infer({"p": FIVE, "q": ONE})["r"].tolist() == [[result, result]]


def test_the_default_signature_goes_first(tmp_path: Path) -> None:
    assert load(tmp_path, several("train", "serving_default")).infer({"p": FIVE, "q": ONE})["r"].tolist() == [[4, 4]]


def test_a_signature_of_another_graph_takes_batches(tmp_path: Path) -> None:
    odd = load(tmp_path, several("plus", "minus"), "minus")
    assert odd.batch_axes
    for rows in (3, 1, 2):
        assert odd.infer({"p": np.repeat(FIVE, rows, 0), "q": np.repeat(ONE, rows, 0)})["r"].tolist() == [[4, 4]] * rows
    fixed = load(tmp_path, several("plus", "minus"), "plus")
    assert not fixed.batch_axes
    with pytest.raises(ArgumentError, match=r"not \[2, 2\]"):
        fixed.infer({"p": np.repeat(FIVE, 2, 0), "q": np.repeat(ONE, 2, 0)})


def test_an_unknown_signature_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, several("plus", "minus"), "times")
    assert said == "odd.tflite has no signature 'times'. Its signatures, for model.signature: 'plus', 'minus'"
    assert refusal(tmp_path, model([add()]), "times").endswith("for model.signature: none")


def test_signatures_that_are_wrong(tmp_path: Path) -> None:
    away = model([add()], [Signature("one", {"p": 77}, {"r": 2})])
    assert "cannot be loaded: Invalid tensor index 77" in refusal(tmp_path, away)
    named = [Signature(key, {"self": 0, "q": 1}, {"r": 2}) for key in ("one", "two")]
    assert "called 'self'" in refusal(tmp_path, model([add()], named))


def test_tensors_with_one_name_or_none(tmp_path: Path) -> None:
    twins = add()
    for tensor, name in zip(twins.tensors, ("a", "a", ""), strict=True):
        tensor.name = name
    odd = load(tmp_path, model([twins]))
    assert [spec.name for spec in (*odd.inputs, *odd.outputs)] == ["a", "a_2", "output"]
    assert odd.infer({"a": FIVE, "a_2": ONE})["output"].tolist() == [[6, 6]]


def test_strings(tmp_path: Path) -> None:
    tensors = [Tensor("s", "string", (1,), (-1,)), Tensor("i", "int32", (2,)), Tensor("o", "string", (2,))]
    odd = load(tmp_path, model([Graph(tensors, [("GATHER", [0, 1], [2], schema.GatherOptionsT())], [0, 1], [2])]))
    assert [spec.datatype for spec in (*odd.inputs, *odd.outputs)] == ["BYTES", "INT32", "BYTES"]
    answer = odd.infer({"s": np.array(["a", "bé", "c\0d"], object), "i": np.array([2, 1], np.int32)})["o"]
    assert answer.tolist() == ["c\0d", "bé"]


def test_outputs_whose_size_depends_on_the_values(tmp_path: Path) -> None:
    tensors = [Tensor("c", "bool", (4,), (-1,)), Tensor("o", "int64", (0, 1))]
    odd = load(tmp_path, model([Graph(tensors, [("WHERE", [0], [1], None)], [0], [1])]))
    assert odd.outputs[0].shape == (-1, 1)
    assert odd.infer({"c": np.array([True, False, True, True])})["o"].tolist() == [[0], [2], [3]]
    assert odd.infer({"c": np.array([False, True])})["o"].tolist() == [[1]]
    assert odd.infer({"c": np.array([False, False])})["o"].shape == (0, 1)


def test_scalars(tmp_path: Path) -> None:
    odd = load(tmp_path, model([add(shape=())]))
    assert odd.inputs[0].shape == ()
    assert odd.infer({"a": np.array(2, np.float32), "b": np.array(3, np.float32)})["c"].item() == 5


def test_quantization_of_channels(tmp_path: Path) -> None:
    scales = ([0.5, 0.25, 0.125], [0, 0, 0], 1)
    tensors = [Tensor("x", "int8", (1, 3), None, None, scales), Tensor("y", "float32", (1, 3))]
    odd = load(tmp_path, model([Graph(tensors, [("DEQUANTIZE", [0], [1], None)], [0], [1])]))
    assert odd.inputs[0].quantization == Quantization((0.5, 0.25, 0.125), (0, 0, 0), 1)
    assert odd.infer({"x": np.array([[1, 2, 3]], np.int8)})["y"].tolist() == [[0.5, 0.5, 0.375]]


def test_what_cannot_be_served_is_named(tmp_path: Path) -> None:
    assert "input 'a' is complex64. Tensors of" in refusal(tmp_path, model([add("complex64")]))
    assert "input 'a' is a resource. Tensors of" in refusal(tmp_path, model([add("resource")]))
    assert "has no outputs" in refusal(tmp_path, model([Graph(add().tensors, [], [0, 1], [])]))
    for kind in ("int4", "uint4"):  # LiteRT shows them as int8, with two in a byte
        assert f"input 'a' is {kind}. Tensors of" in refusal(tmp_path, model([add(kind)]))
    many = Graph([Tensor(f"x{index}", "float32", (1,)) for index in range(300)], [], range(300), [0])
    assert "has 300 inputs. At most 256" in refusal(tmp_path, model([many]))


def test_an_operator_that_there_is_not(tmp_path: Path) -> None:
    tensors = [Tensor(name, "float32", (1, 2)) for name in "ab"]
    said = refusal(tmp_path, model([Graph(tensors, [("STABLEHLO_CLAMP", [0], [1], None)], [0], [1])]))
    assert "cannot be loaded" in said
