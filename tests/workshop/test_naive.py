"""Careless int8 of the speech detector, one scale for a whole weight, is heard by the gate; half-precision weights pass."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mcp.engine.messages import ModelSpec
from edge_mcp.repository.manifest import read
from edge_mcp.tools.arguments import input_schema
from edge_mcp.workshop.gate import Verdict, compare
from edge_mcp.workshop.samples import read_samples
from edge_mcp.workshop.subject import Seen, Subject

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models" / "speech-detector"
ORIGINAL = ROOT / "tests" / "fixtures" / "models" / "silero_vad_16k_op15.onnx"


def careless(target: Path) -> None:
    """Every large weight as int8 with one scale in all, unfolded when it is loaded."""
    model = onnx.load(str(ORIGINAL))
    unfolded = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 1024:
            continue
        weights, name = numpy_helper.to_array(tensor), tensor.name
        scale = np.float32(np.abs(weights).max() / 127)
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(np.rint(weights / scale).astype(np.int8), f"{name}_q"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{name}_s"))
        unfolded.append(helper.make_node("Cast", [f"{name}_q"], [f"{name}_f"], to=TensorProto.FLOAT))
        unfolded.append(helper.make_node("Mul", [f"{name}_f", f"{name}_s"], [name]))
    nodes = [*unfolded, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def seen(folder: Path, file: Path, sounds: Path) -> list[Seen]:
    """What the speech detector with this file makes of the sounds."""
    if file.parent != folder:
        shutil.copy(file, folder)
    manifest = read(SHIPPED)
    text = (SHIPPED / "model.toml").read_text("utf-8").split("[[check]]")[0]
    text = text.replace(manifest.model.file, file.name).replace(manifest.model.sha256, "")
    (folder / "model.toml").write_text(text, "utf-8")
    changed = read(folder)
    subject = Subject(ModelSpec(file.name, str(folder), changed, input_schema(changed, None)))
    try:
        return subject.see(read_samples(sounds, {"audio": {}}, subject.inputs))
    finally:
        subject.close()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    shutil.copy(SHIPPED / "sample.ogg", folder / "alexa.ogg")
    shutil.copy(ROOT / "models" / "wake-word-detector" / "sample.ogg", folder / "nabu.ogg")
    return folder


def judged(tmp_path: Path, candidate: Path, sounds: Path) -> Verdict:
    folder = tmp_path / "speech-detector"
    folder.mkdir()
    return compare(seen(folder, ORIGINAL, sounds), seen(folder, candidate, sounds), 0.5, ["stateN"])


def test_careless_int8_is_heard(tmp_path: Path, sounds: Path) -> None:
    careless(tmp_path / "careless.onnx")
    assert judged(tmp_path, tmp_path / "careless.onnx", sounds).agreement < 0.9


def test_weights_of_half_precision_pass(tmp_path: Path, sounds: Path) -> None:
    verdict = judged(tmp_path, SHIPPED / "silero_vad_16k_fp16w.onnx", sounds)
    assert verdict.agreement >= 0.99
    assert verdict.worst == ""
