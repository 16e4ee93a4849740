"""ONNX Runtime's own traps; the odd models are those that its package carries."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_mcp.engine.host.runtimes.base import RuntimeOptions
from edge_mcp.engine.host.runtimes.onnx import OnnxModel, OnnxRuntime
from edge_mcp.errors import ArgumentError, ModelError

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
    assert not mul.batch_axes
    assert mul.inputs[0].shape == (3, 2)
    answer = mul.infer({"X": np.ones((3, 2), np.float32)})["Y"]
    assert answer.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_sequences_of_maps() -> None:
    iris = load(DATASETS / "logreg_iris.onnx")
    assert [(spec.name, spec.datatype, spec.shape) for spec in iris.outputs] == [
        ("label", "INT64", (3,)),
        ("probabilities", "seq(map(int64,tensor(float)))", ()),
    ]
    assert not iris.batch_axes
    answer = iris.infer({"float_input": np.ones((3, 2), np.float32)})["probabilities"]
    assert [sorted(each) for each in answer] == [[0, 1, 2]] * 3
    assert all(abs(sum(each.values()) - 1) < 1e-6 for each in answer)


def test_the_detectors_batch_is_fixed_and_the_classifiers_is_not() -> None:
    assert not load(ROOT / "models/object-detector/ssd_oidv4_int8_qdq.onnx").batch_axes
    assert load(ROOT / "models/image-classifier/efficientnet_lite0_int8_qdq.onnx").batch_axes


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


def protobuf(number: int, value: int | bytes) -> bytes:
    """One field of a message, all sizes below 128."""
    return bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value


def gather() -> bytes:
    """An ONNX file of one node, y = x[i], with x and y FP32 and i INT64, each of two."""

    def two(name: bytes, datatype: int) -> bytes:
        shape = protobuf(1, protobuf(1, 2))
        return protobuf(1, name) + protobuf(2, protobuf(1, protobuf(1, datatype) + protobuf(2, shape)))

    node = protobuf(1, b"x") + protobuf(1, b"i") + protobuf(2, b"y") + protobuf(4, b"Gather")
    graph = protobuf(1, node) + protobuf(2, b"g")
    graph += protobuf(11, two(b"x", 1)) + protobuf(11, two(b"i", 7)) + protobuf(12, two(b"y", 1))
    return protobuf(1, 8) + protobuf(7, graph) + protobuf(8, protobuf(2, 13))


def test_a_run_that_fails_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the exception alone: ONNX Runtime's own coloured lines stay out of the log, when loading and when running."""
    (tmp_path / "gather.onnx").write_bytes(gather())
    model = load(tmp_path / "gather.onnx")
    x = np.array([3, 4], np.float32)
    assert model.infer({"x": x, "i": np.array([1, 0])})["y"].tolist() == [4, 3]
    with pytest.raises(ArgumentError, match="idx=5"):
        model.infer({"x": x, "i": np.array([5, 0])})
    (tmp_path / "broken.onnx").write_bytes(gather().replace(b"Gather", b"Gothic"))
    with pytest.raises(ModelError, match="Gothic"):
        load(tmp_path / "broken.onnx")
    assert capfd.readouterr().err == ""
