"""Signatures that ONNX files have, and those that are refused with the reason."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.onnx import OnnxModel, OnnxRuntime
from edge_mcp.engine.host.runtimes.onnx_file import read_facts
from edge_mcp.engine.messages import Quantization
from edge_mcp.errors import ArgumentError, ModelError
from tests.onnx_files import (
    BFLOAT16,
    BOOL,
    COMPLEX64,
    FLOAT,
    FLOAT8,
    FLOAT16,
    INT4,
    INT8,
    INT64,
    STRING,
    UINT8,
    Graph,
    Tensor,
    external_tensor,
    field,
    graph,
    identity,
    map_type,
    model,
    node,
    optional_type,
    sequence_type,
    tensor,
    tensor_type,
    value,
)

FLOATS = tensor_type(FLOAT, None)


def load(folder: Path, content: bytes) -> OnnxModel:
    path = folder / "odd.onnx"
    path.write_bytes(content)
    return OnnxRuntime().load(path, RuntimeOptions())


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        load(folder, content)
    said = str(caught.value)
    assert said.startswith("odd.onnx")
    assert "\n" not in said
    assert str(folder) not in said
    assert len(said) < 600
    return said


def shape_of(folder: Path, shape: Any) -> tuple[int, ...]:
    (spec,) = load(folder, identity(FLOAT, shape=shape)).inputs
    return spec.shape


def test_sizes_that_are_open(tmp_path: Path) -> None:
    assert shape_of(tmp_path, ("batch", "", -1, 3)) == (-1, -1, -1, 3)
    assert shape_of(tmp_path, (0, 3)) == (0, 3)
    assert shape_of(tmp_path, ()) == ()


def test_a_scalar_is_not_a_tensor_of_unknown_rank(tmp_path: Path) -> None:
    scalar = load(tmp_path, identity(FLOAT, shape=()))
    assert not scalar.inputs[0].any_rank
    assert scalar.infer({"x0": np.array(5, np.float32)})["y0"].shape == ()
    with pytest.raises(ArgumentError, match=r"shape \[\], not \[1\]"):
        scalar.infer({"x0": np.ones(1, np.float32)})
    anything = load(tmp_path, identity(FLOAT, shape=None))
    assert anything.inputs[0].any_rank
    assert anything.outputs[0].any_rank
    for shape in ((), (3,), (2, 1, 2)):
        assert anything.infer({"x0": np.ones(shape, np.float32)})["y0"].shape == shape


def test_an_output_of_control_flow(tmp_path: Path) -> None:
    """Branches of different shapes: what is declared as 0 says nothing."""
    branches: dict[str, Any] = {
        name: Graph(graph([node("Constant", [], ["c"], value=Tensor(tensor("", array)))], [], [value("c", FLOAT, array.shape)]))
        for name, array in (("then_branch", np.ones((2, 3), np.float32)), ("else_branch", np.zeros(1, np.float32)))
    }
    main = graph([node("If", ["x"], ["y"], **branches)], [value("x", BOOL, ())], [value("y", FLOAT, (0, 0))])
    choice = load(tmp_path, model(main))
    assert choice.outputs[0].shape == (-1, -1)
    assert choice.infer({"x": np.array(True)})["y"].shape == (2, 3)
    assert choice.infer({"x": np.array(False)})["y"].shape == (1,)


@pytest.mark.parametrize("datatypes", [range(1, 14), [FLOAT16, INT64, BOOL, STRING]])
def test_all_plain_types(tmp_path: Path, datatypes: list[int]) -> None:
    odd = load(tmp_path, identity(*datatypes))
    assert len(odd.inputs) == len(odd.outputs) == len(datatypes)


@pytest.mark.parametrize(("datatype", "named"), [(BFLOAT16, "bfloat16"), (FLOAT8, "float8e4m3fn")])
def test_numbers_that_python_has_no_word_for(tmp_path: Path, datatype: int, named: str) -> None:
    cast = graph([node("Cast", ["x"], ["y"], to=datatype)], [value("x", FLOAT, (2,))], [value("y", datatype, (2,))])
    said = refusal(tmp_path, model(cast))
    assert f"output 'y' is tensor({named}). Tensors of booleans" in said
    assert "add a Cast" in said


@pytest.mark.parametrize("datatype", [INT4, COMPLEX64])
def test_what_the_runtime_itself_cannot(tmp_path: Path, datatype: int) -> None:
    assert "This is ONNX Runtime 1." in refusal(tmp_path, identity(datatype))


@pytest.mark.parametrize(
    ("labels", "key", "expected"),
    [
        ({"classlabels_int64s": [4, -7]}, INT64, [{4: 1, -7: 2}]),
        ({"classlabels_strings": ["a b", "ü"]}, STRING, [{"a b": 1, "ü": 2}]),
    ],
)
def test_maps(tmp_path: Path, labels: dict[str, Any], key: int, expected: Any) -> None:
    kind = sequence_type(map_type(key, tensor_type(FLOAT, ())))
    zipped = graph([node("ZipMap", ["x"], ["y"], "ai.onnx.ml", **labels)], [value("x", FLOAT, ("N", 2))], [value("y", kind)])
    odd = load(tmp_path, model(zipped, opset=17))
    assert odd.outputs[0].datatype == f"seq(map({'int64' if key == INT64 else 'string'},tensor(float)))"
    assert odd.infer({"x": np.array([[1, 2]], np.float32)})["y"] == expected


def test_sequences_of_tensors(tmp_path: Path) -> None:
    parts = node("SplitToSequence", ["x"], ["y"], axis=0)
    odd = load(tmp_path, model(graph([parts], [value("x", FLOAT, (3, 2))], [value("y", sequence_type(FLOATS))])))
    assert [part.shape for part in odd.infer({"x": np.ones((3, 2), np.float32)})["y"]] == [(1, 2)] * 3


def test_other_kinds_are_named(tmp_path: Path) -> None:
    at = node("SequenceAt", ["s", "i"], ["y"])
    inputs = [value("s", sequence_type(FLOATS)), value("i", INT64, ())]
    assert "input 's' is seq(tensor(float)). Tensors of" in refusal(tmp_path, model(graph([at], inputs, [value("y", FLOAT)])))
    maybe = graph([node("Optional", ["x"], ["y"])], [value("x", FLOAT, (3,))], [value("y", optional_type(FLOATS))])
    assert "output 'y' is optional(tensor(float)). Tensors of" in refusal(tmp_path, model(maybe))


def test_no_inputs(tmp_path: Path) -> None:
    constant = graph([node("Constant", [], ["y"], value_floats=[1.0, 2.0])], [], [value("y", FLOAT, (2,))])
    assert load(tmp_path, model(constant)).infer({})["y"].tolist() == [1, 2]


def test_thousands_of_inputs(tmp_path: Path) -> None:
    assert "has 3000 inputs. At most 256 are served" in refusal(tmp_path, identity(*[FLOAT] * 3000))


@pytest.mark.parametrize("shape", [(2**40,), (1,) * 33, ("N", 2**30)])
def test_shapes_that_no_memory_holds(tmp_path: Path, shape: Any) -> None:
    assert "At most 32 dimensions and 256 MiB are served" in refusal(tmp_path, identity(FLOAT, shape=shape))


def with_weights(location: str) -> bytes:
    weights = [external_tensor("w", (4,), location)]
    return model(graph([node("Add", ["x", "w"], ["y"])], [value("x", FLOAT, (4,))], [value("y", FLOAT, (4,))], weights))


@pytest.mark.parametrize(
    "place", ["../weights.bin", "{there}/weights.bin", "link.bin", "linked/weights.bin", "a/../../weights.bin"]
)
def test_weights_outside_the_folder(tmp_path: Path, place: str) -> None:
    there, folder = tmp_path, tmp_path / "model"
    folder.mkdir()
    (there / "weights.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (folder / "link.bin").symlink_to(there / "weights.bin")
    (folder / "linked").symlink_to(there)
    assert "outside its folder. Put them beside" in refusal(folder, with_weights(place.format(there=there)))
    hidden = Graph(
        graph([node("Identity", ["w"], ["c"])], [], [value("c", FLOAT, (4,))], [external_tensor("w", (4,), "../weights.bin")])
    )
    nested = graph(
        [node("If", ["x"], ["y"], then_branch=hidden, else_branch=hidden)], [value("x", BOOL, ())], [value("y", FLOAT, (4,))]
    )
    assert "outside its folder" in refusal(folder, model(nested))


@pytest.mark.parametrize("place", ["weights.bin", "*/_ORT_MEM_ADDR_/*", "\0", ""])
def test_weights_that_are_not_there(tmp_path: Path, place: str) -> None:
    assert "odd.onnx has weights in" in refusal(tmp_path, with_weights(place))


def test_weights_beside(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    odd = load(tmp_path, with_weights("weights.bin"))
    assert odd.infer({"x": np.ones(4, np.float32)})["y"].tolist() == [1, 2, 3, 4]


def quantized_twice() -> bytes:
    small = [tensor(name, np.array(number, kind)) for name, number, kind in (("s", 0.5, np.float32), ("z", 128, np.uint8))]
    many = [tensor("t", np.array([0.5, 0.25], np.float32)), tensor("u", np.array([1, -1], np.int8))]
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["real"]),
        node("QuantizeLinear", ["real", "t", "u"], ["y"], axis=-1),
    ]
    return model(graph(nodes, [value("x", UINT8, ("N", 2))], [value("y", INT8, ("N", 2))], small + many))


def test_quantization_is_found_in_the_graph(tmp_path: Path) -> None:
    odd = load(tmp_path, quantized_twice())
    assert odd.inputs[0].quantization == Quantization((0.5,), (128,))
    assert odd.outputs[0].quantization == Quantization((0.5, 0.25), (1, -1), 1)
    x = np.array([[130, 129]], np.uint8)  # 1.0, 0.5
    assert odd.infer({"x": x})["y"].tolist() == [[3, 1]]


def test_what_the_file_says_about_itself(tmp_path: Path) -> None:
    one = graph([node("Identity", ["x"], ["y"])], [value("x", FLOAT, (1,))], [value("y", FLOAT, (1,))])
    said = {"labels": "a,b", "big": "x" * 300_000, "": "no name"}
    odd = load(tmp_path, model(one, said, producer="me", domain="org.example", version=3, description="ä\nb"))
    assert odd.metadata == {
        "labels": "a,b",
        "": "no name",
        "onnx.producer": "me",
        "onnx.graph": "g",
        "onnx.domain": "org.example",
        "onnx.version": "3",
        "onnx.description": "ä\nb",
    }
    assert load(tmp_path, model(one)).metadata == {"onnx.graph": "g"}


def test_custom_operators(tmp_path: Path) -> None:
    magic = graph([node("Magic", ["x"], ["y"], "org.example")], [value("x", FLOAT, (1,))], [value("y", FLOAT, (1,))])
    assert "Magic" in refusal(tmp_path, model(magic))


def test_graphs_within_graphs(tmp_path: Path) -> None:
    deep = graph([], [], [])
    for _ in range(100):
        deep = graph([node("If", ["x"], ["y"], then_branch=Graph(deep), else_branch=Graph(b""))], [], [])
    assert "more than 32 deep" in refusal(tmp_path, model(deep))


def test_any_bytes_are_facts_or_a_refusal(tmp_path: Path) -> None:
    """Cut and changed anywhere, the reader neither fails otherwise nor reads beyond."""
    random = np.random.default_rng(0)
    whole = with_weights("weights.bin") + quantized_twice()
    path = tmp_path / "torn.onnx"
    for _ in range(1500):
        torn = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for _ in range(random.integers(0, 4)):
            torn[random.integers(len(torn))] = random.integers(256)
        path.write_bytes(torn)
        try:
            read_facts(path)
        except ModelError as error:
            assert "torn.onnx cannot be loaded: it is no protobuf" in str(error)


def test_two_graphs_are_read_as_one(tmp_path: Path) -> None:
    """As protobuf does: else the second could name weights that the first does not."""
    extra = field(7, field(5, external_tensor("v", (4,), "../weights.bin")))
    assert "outside its folder" in refusal(tmp_path, with_weights("weights.bin") + extra)


def _file(folder: Path, inside: bytes) -> Path:
    path = folder / "odd.onnx"
    path.write_bytes(field(7, inside))
    return path


def test_what_is_not_needed_of_a_file_takes_no_memory(tmp_path: Path) -> None:
    weights = field(2, 6) + field(5, b"\x01" * 60_000)  # packed INT32: a number for each byte
    inside = b"".join(field(5, field(8, f"w{number}") + weights) for number in range(50)) + field(1, b"") * 100_000
    path = _file(tmp_path, inside)
    tracemalloc.start()
    try:
        read_facts(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_scales_that_many_nodes_share_are_not_read_for_ever(tmp_path: Path) -> None:
    scale = field(5, field(8, "s") + field(2, 1) + field(9, b"\0\0\x80\x3f" * 16_000))
    nodes = [field(1, "x") + field(1, "s") + field(2, "y") + field(4, "DequantizeLinear")] * 1000
    path = _file(tmp_path, scale + field(11, field(1, "x")) + b"".join(field(1, one) for one in nodes))
    with pytest.raises(ModelError, match="parts"):
        read_facts(path)
