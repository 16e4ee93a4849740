"""ONNX Runtime's own traps; the odd models are those that its package carries."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.onnx import OnnxModel, OnnxRuntime
from edge_mcp.errors import ModelError

ROOT = Path(__file__).parents[4]
DATASETS = Path(onnxruntime.__file__).parent / "datasets"


def load(path: Path) -> OnnxModel:
    return OnnxRuntime().load(path, RuntimeOptions())


def test_static_models() -> None:
    mul = load(DATASETS / "mul_1.onnx")
    assert not mul.dynamic_batch
    assert mul.inputs[0].shape == (3, 2)
    answer = mul.infer({"X": np.ones((3, 2), np.float32)})["Y"]
    assert answer.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_outputs_that_are_no_tensors_are_named() -> None:
    with pytest.raises(ModelError, match=r"output 'probabilities' is seq\(map\(int64,tensor\(float\)\)\)"):
        load(DATASETS / "logreg_iris.onnx")


def test_the_detectors_batch_is_fixed_and_the_classifiers_is_not() -> None:
    assert not load(ROOT / "models/object-detector/ssd_oidv4_int8_qdq.onnx").dynamic_batch
    assert load(ROOT / "models/image-classifier/efficientnet_lite0_int8_qdq.onnx").dynamic_batch


def test_memory_of_a_large_batch_is_given_back() -> None:
    model = load(ROOT / "models/image-classifier/efficientnet_lite0_int8_qdq.onnx")
    one, many = np.zeros((1, 3, 224, 224), np.float32), np.zeros((32, 3, 224, 224), np.float32)
    model.infer({"input": one})
    before = resident_mb()
    model.infer({"input": many})
    large = resident_mb()
    model.infer({"input": one})
    after = resident_mb()
    assert large - before > 50
    assert after - before < (large - before) / 4


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
