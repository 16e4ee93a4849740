"""Every model file as a bare tool answers what its runtime itself answers to the same tensors, to 1e-6 or bit by bit.

`EDGE_MCP_TEST_MODELS` names further folders of models, with colons between them.
"""

import base64
import json
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from msgspec.structs import replace

from edge_mcp.engine.host.runtimes.base import DATATYPES, Array
from edge_mcp.engine.host.served import ServedModel, describe
from edge_mcp.engine.messages import Item, ModelSpec, TensorSpec
from edge_mcp.engine.naming import argument_names
from edge_mcp.errors import ModelError
from edge_mcp.repository.manifest import read
from edge_mcp.repository.store import derived
from edge_mcp.tools.arguments import input_schema
from tests.processes import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "models"
FOLDERS = [
    FIXTURES,
    *(ROOT / "models").iterdir(),
    *map(Path, filter(None, os.environ.get("EDGE_MCP_TEST_MODELS", "").split(":"))),
]
FILES = sorted(
    path for folder in FOLDERS if folder.is_dir() for path in folder.iterdir() if path.suffix in (".onnx", ".tflite")
)
# What stands for a size that the file leaves open; any other is 1 or, of the first dimension, the rows.
SIZES = {"ppocr4_det_w8": [32, 64], "ppocr4_rec_latin_w8": [48, 96], "silero": [576]}


@cache
def served(path: Path) -> ServedModel:
    manifest = derived(path)
    return ServedModel.load(ModelSpec(path.name, str(path.parent), manifest, input_schema(manifest, describe(path).signature)))


def made_up(path: Path, rows: int, seed: int) -> dict[str, Array]:
    """Random tensors for each input."""
    random = np.random.default_rng(seed)
    sizes = next((sizes for name, sizes in SIZES.items() if path.stem.startswith(name)), [])
    return {spec.name: _random(random, spec, rows, sizes) for spec in describe(path).signature.inputs}


def _random(random: np.random.Generator, spec: TensorSpec, rows: int, sizes: list[int]) -> Array:
    open_sizes = iter(sizes)
    shape = [
        size if size >= 0 else rows if index == 0 or len(spec.shape) == 3 else next(open_sizes, 1)
        for index, size in enumerate(spec.shape)
    ]
    dtype = DATATYPES[spec.datatype]
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if spec.shape == ():
        return np.array(16000, dtype)
    limits = np.iinfo(dtype) if dtype.itemsize == 1 else np.iinfo(np.uint8)
    return random.integers(limits.min, limits.max, shape).astype(dtype)


def raw(path: Path, tensors: dict[str, Array]) -> dict[str, Any]:
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, tensors), strict=True))
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    if signatures := interpreter.get_signature_list():
        answer: dict[str, Any] = interpreter.get_signature_runner(next(iter(signatures)))(**tensors)
        return answer
    for detail in interpreter.get_input_details():
        interpreter.resize_tensor_input(detail["index"], tensors[detail["name"]].shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], tensors[detail["name"]])
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}


def encoded(array: Array) -> dict[str, Any]:
    name = next(name for name, dtype in DATATYPES.items() if dtype == array.dtype)
    return {"dtype": name, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode()}


def answer(path: Path, tensors: dict[str, Array], encoding: str = "base64", **more: Any) -> dict[str, Array]:
    model = served(path)
    names = dict(zip([spec.name for spec in model._model.inputs], argument_names(model._model.inputs), strict=True))
    arguments = {names[name]: encoded(array) for name, array in tensors.items()}
    outcome = model.run([Item(json.dumps({**arguments, "encoding": encoding, **more}).encode())], lambda stage: None)[0][0]
    assert not outcome.error, outcome.error
    return {name: decoded(one) for name, one in json.loads(outcome.structured)["outputs"].items()}


def decoded(answered: dict[str, Any]) -> Array:
    dtype = DATATYPES[answered["dtype"]]
    if isinstance(answered["data"], str):
        return np.frombuffer(base64.b64decode(answered["data"]), dtype).reshape(answered["shape"])
    return np.array(answered["data"], dtype).reshape(answered["shape"])


def same(one: Array, other: Array) -> None:
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    if one.dtype.kind == "f":
        assert np.allclose(one, other, rtol=1e-6, atol=1e-6, equal_nan=True)
    else:
        assert (one == other).all()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_a_tool_answers_what_its_runtime_does(path: Path) -> None:
    if path.name.startswith("BAD_"):
        with pytest.raises(ModelError, match="failed to prepare"):
            describe(path)
        return
    dynamic = all(spec.shape[:1] == (-1,) for spec in describe(path).signature.inputs)
    for seed, rows in enumerate((1, 3) if dynamic else (1,)):
        tensors = made_up(path, rows, seed)
        expected = raw(path, tensors)
        for encoding in ("base64", "list"):
            answered = answer(path, tensors, encoding)
            assert answered.keys() == expected.keys()
            for name, array in expected.items():
                same(answered[name], array)


def dequantized(path: Path, x: Array) -> dict[str, Array]:
    """The answer in reals to an input in reals, whatever the model computes with."""
    (spec,) = describe(path).signature.inputs
    more: dict[str, Any] = {}
    if any(output.quantization for output in describe(path).signature.outputs):
        more["dequantize"] = True
    return answer(path, {spec.name: x}, **more)


def test_the_face_network_answers_the_same_in_both_formats() -> None:
    """The ONNX file gives the two layers of anchors apart."""
    x = np.random.default_rng(3).random((1, 128, 128, 3), np.float32) * 2 - 1
    lite = dequantized(ROOT / "models/face-detector/face_short_range_fp16.tflite", x)
    onnx = dequantized(FIXTURES / "blazeface_front_fp32.onnx", x)
    regressors = np.concatenate([onnx["Identity_2:0"], onnx["Identity_3:0"]], 1)
    classificators = np.concatenate([onnx["Identity:0"], onnx["Identity_1:0"]], 1)
    assert np.allclose(lite["regressors"], regressors, atol=2e-4)
    assert np.allclose(lite["classificators"], classificators, atol=2e-4)


DETECTORS = [path for path in FILES if path.stem.startswith("ssd_") and path.parent != ROOT / "models/object-detector"]


@pytest.mark.parametrize(
    "path", DETECTORS or [ROOT / "models/object-detector/ssd_oidv4_int8_qdq.onnx"], ids=lambda path: path.name
)
@pytest.mark.parametrize("picture", ["chelsea.png", "coffee.png", "astronaut.png", "brick.png"])
def test_the_detector_finds_the_same_in_every_format(path: Path, picture: str) -> None:
    """Quantized in another way each, one of them with integers for inputs and outputs."""
    expected, found = (_labels(one, picture) for one in (ROOT / "models/object-detector/ssd_oidv4_int8_qdq.onnx", path))
    assert found == expected


def _labels(path: Path, picture: str) -> set[str]:
    folder = ROOT / "models" / "object-detector"
    shipped = read(folder)
    manifest = replace(
        shipped,
        model=replace(shipped.model, file=str(path.name), sha256=""),
        output=replace(shipped.output, labels="ssd_labels.txt", threshold=0.5),
    )
    with TemporaryDirectory() as beside:
        for file in (path, folder / "ssd_labels.txt"):
            (Path(beside) / file.name).symlink_to(file)
        model = ServedModel.load(ModelSpec(str(path), beside, manifest, input_schema(manifest, None)))
        image = base64.b64encode((ROOT / "tests" / "fixtures" / picture).read_bytes()).decode()
        outcome = model.run([Item(json.dumps({"image": image}).encode())], lambda stage: None)[0][0]
    assert not outcome.error, outcome.error
    return {one["label"] for one in json.loads(outcome.structured)["detections"]}
