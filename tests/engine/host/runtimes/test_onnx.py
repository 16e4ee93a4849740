"""ONNX Runtime's own traps; the odd models are those that its package carries."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.onnx import OnnxModel, OnnxRuntime
from edge_mcp.errors import ModelError

ROOT = Path(__file__).parents[4]
LARGE_BATCH = """
import sys
from pathlib import Path
import numpy as np
from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.onnx import OnnxRuntime
model = OnnxRuntime().load(Path(sys.argv[1]), RuntimeOptions())
for rows in (1, 32, 1):
    model.infer({"input": np.zeros((rows, 3, 224, 224), np.float32)})
    print(Path("/proc/self/statm").read_text().split()[1])
"""
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
    """In a process of its own, where nothing else has left memory to be used again."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE_BATCH, str(ROOT / "models/image-classifier/efficientnet_lite0_int8_qdq.onnx")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    before, large, after = (int(pages) * 4096 / 1e6 for pages in done.stdout.split())
    assert large - before > 50
    assert after - before < (large - before) / 4
