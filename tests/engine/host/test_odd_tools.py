"""Odd files as bare tools: what the schema says, what is asked, what is answered."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from PIL import Image

from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.messages import Item, ModelSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SoftmaxOutput
from edge_mcp.repository.sections import ModelSection, ToolSection
from edge_mcp.tools.arguments import input_schema
from edge_mcp.tools.results import output_schema
from tests import onnx_files, tflite_files
from tests.onnx_files import FLOAT, INT64, STRING, graph, map_type, model, node, sequence_type, tensor_type, value


class Tool:
    def __init__(self, folder: Path, content: bytes, suffix: str = ".onnx", signature: str = "") -> None:
        path = folder / f"odd{suffix}"
        path.write_bytes(content)
        manifest = Manifest(ModelSection("odd", "1.0.0", path.name, signature=signature), ToolSection("odd"))
        self.schema = input_schema(manifest, describe(path, signature).signature)
        jsonschema.Draft202012Validator.check_schema(self.schema)
        self.result = jsonschema.Draft202012Validator(output_schema(manifest))
        self.served = ServedModel.load(ModelSpec("odd", str(folder), manifest, self.schema))

    def __call__(self, arguments: dict[str, Any]) -> dict[str, Any]:
        outcome = self.served.run([Item(json.dumps(arguments).encode())], lambda stage: None)[0][0]
        assert not outcome.error, outcome.error
        answer = json.loads(outcome.structured)
        self.result.validate(answer)
        outputs: dict[str, Any] = answer["outputs"]
        return outputs


ZIPPED = [
    ({"classlabels_int64s": [4, -7]}, INT64, ("4", "-7")),
    ({"classlabels_strings": ["a b", 'ü"\n']}, STRING, ("a b", 'ü"\n')),
]


@pytest.mark.parametrize(("labels", "key", "names"), ZIPPED)
def test_maps_are_objects_and_what_is_no_number_is_null(tmp_path: Path, labels: dict[str, Any], key: int, names: Any) -> None:
    kind = sequence_type(map_type(key, tensor_type(FLOAT, ())))
    zipped = graph([node("ZipMap", ["x"], ["y"], "ai.onnx.ml", **labels)], [value("x", FLOAT, ("N", 2))], [value("y", kind)])
    odd = Tool(tmp_path, model(zipped, opset=17))
    rows = np.array([[1, np.nan], [np.inf, 0.5]], "<f4")
    for encoding in ("list", "base64"):
        x = {"dtype": "FP32", "shape": [2, 2], "data": onnx_base64(rows)}
        answer = odd({"x": x, "encoding": encoding})["y"]
        assert answer["shape"] == [2]
        assert answer["data"] == [{names[0]: 1, names[1]: None}, {names[0]: None, names[1]: 0.5}]


def onnx_base64(array: Any) -> str:
    return base64.b64encode(array.tobytes()).decode()


def test_sequences_of_tensors(tmp_path: Path) -> None:
    parts = node("SplitToSequence", ["x"], ["y"], axis=0)
    kind = sequence_type(tensor_type(FLOAT, None))
    odd = Tool(tmp_path, model(graph([parts], [value("x", FLOAT, (2, 2))], [value("y", kind)])))
    assert odd({"x": [[1, 2], [3, 4]]})["y"] == {
        "dtype": "seq(tensor(float))",
        "shape": [2],
        "data": [{"dtype": "FP32", "shape": [1, 2], "data": [row]} for row in ([[1, 2], [3, 4]])],
    }


def test_names_that_hosts_would_not_take(tmp_path: Path) -> None:
    long, names = "n" * 65536, ["input:0", "encoding", "ü ü"]
    inputs = [*names, long]
    nodes = [node("Identity", [name], [f"{name}/out"]) for name in inputs]
    odd = Tool(
        tmp_path,
        model(
            graph(nodes, [value(name, FLOAT, (1,)) for name in inputs], [value(f"{name}/out", FLOAT, (1,)) for name in inputs])
        ),
    )
    assert odd.schema["required"] == ["input_0", "encoding_2", "input", "n" * 64]
    assert odd.schema["properties"]["input_0"]["description"].startswith(
        "The model's input 'input:0'. FP32 tensor of shape [1]"
    )
    assert len(json.dumps(odd.schema)) < 8000
    arguments = {name: [index] for index, name in enumerate(odd.schema["required"])}
    answer = odd(arguments)
    assert {name: one["data"] for name, one in answer.items()} == {f"{name}/out": [i] for i, name in enumerate(inputs)}
    # By the model's own names too, but for the one that means something else
    own = {"input:0": [0], "encoding_2": [1], "ü ü": [2], long: [3]}
    assert odd(own) == answer


def test_a_tool_without_inputs(tmp_path: Path) -> None:
    constant = graph([node("Constant", [], ["y"], value_floats=[1.0, 2.0])], [], [value("y", FLOAT, (2,))])
    odd = Tool(tmp_path, model(constant))
    assert odd.schema["required"] == []
    assert odd({})["y"]["data"] == [1, 2]


def test_strings_and_every_other_type(tmp_path: Path) -> None:
    odd = Tool(tmp_path, onnx_files.identity(*range(1, 14)))
    kinds = ["FP32", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BYTES", "BOOL", "FP16", "FP64", "UINT32", "UINT64"]
    values: dict[str, Any] = {"BYTES": ["ü", ""], "BOOL": [True, False]}
    arguments = {f"x{index}": values.get(kind, [0, 1]) for index, kind in enumerate(kinds)}
    for index, kind in enumerate(kinds):
        assert odd(arguments)[f"y{index}"] == {"dtype": kind, "shape": [2], "data": arguments[f"x{index}"]}


def test_any_rank(tmp_path: Path) -> None:
    odd = Tool(tmp_path, onnx_files.identity(FLOAT, shape=None))
    assert "of any shape" in odd.schema["properties"]["x0"]["description"]
    for x in (5, [1], [[1, 2]], []):
        assert odd({"x0": x})["y0"]["data"] == x


def test_the_signature_that_the_manifest_names(tmp_path: Path) -> None:
    graphs = [tflite_files.add(), tflite_files.add()]
    signatures = [
        tflite_files.Signature("one", {"p": 0, "q": 1}, {"r": 2}),
        tflite_files.Signature("two", {"s": 0, "t": 1}, {"u": 2}, 1),
    ]
    content = tflite_files.model(graphs, signatures)
    assert Tool(tmp_path, content, ".tflite", "two")({"s": [[1, 2]], "t": [[3, 4]]})["u"]["data"] == [[4, 6]]
    assert Tool(tmp_path, content, ".tflite")({"p": [[1, 2]], "q": [[3, 4]]})["r"]["data"] == [[4, 6]]
    with pytest.raises(ModelError, match=r"has no signature 'three'. Its signatures, for model.signature: 'one', 'two'"):
        Tool(tmp_path, content, ".tflite", "three")


def test_what_is_left_open_is_checked_when_it_comes(tmp_path: Path) -> None:
    """The file says neither how many scores there are nor, with an unknown rank, anything of them."""
    for number, (outputs, labels, said) in enumerate(
        [(("N", "C"), "a\nb\nc\n", ""), (None, "a\nb\nc\n", ""), (("N", "C"), "a\nb\n", "came with the shape [1, 3], but")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        flat = graph([node("Flatten", ["x"], ["y"])], [value("x", FLOAT, ("N", 1, 1, "C"))], [value("y", FLOAT, outputs)])
        (folder / "odd.onnx").write_bytes(model(flat))
        (folder / "labels.txt").write_text(labels)
        manifest = Manifest(
            ModelSection("odd", "1.0.0", "odd.onnx"),
            ToolSection("odd"),
            ImageInput((1, 1)),
            SoftmaxOutput("labels.txt", activation="none"),
        )
        served = ServedModel.load(ModelSpec("odd", str(folder), manifest, input_schema(manifest, None)))
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (1, 0, 0)).save(buffer, "PNG")
        item = Item(json.dumps({"image": base64.b64encode(buffer.getvalue()).decode()}).encode())
        outcome = served.run([item], lambda stage: None)[0][0]
        assert said in outcome.error
        assert bool(said) == bool(outcome.error)
