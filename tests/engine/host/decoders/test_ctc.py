"""Characters by connectionist temporal classification."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mcp.engine.host.decoders.ctc import CtcDecoder
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import ImageInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import CtcOutput, SoftmaxOutput
from edge_mcp.repository.sections import ModelSection, ToolSection

STEPS = TensorSpec("steps", "FP32", (-1, -1, 4))
CLASSES = ["", "a", "b", " "]


def decoder(folder: Path, outputs: Any = (STEPS,), labels: list[str] = CLASSES, output: Any = None) -> CtcDecoder:
    (folder / "characters.json").write_text(json.dumps(labels))
    output = output or CtcOutput("characters.json", activation="none")
    manifest = Manifest(ModelSection("m", "1.0.0", "m.onnx"), ToolSection("t"), ImageInput((0, 48), "proportional"), output)
    return CtcDecoder(manifest, outputs, folder)


def read(folder: Path, classes: list[int], score: float = 0.9, threshold: float = 0.5, **keys: Any) -> dict[str, Any]:
    """What is read of steps whose likeliest classes are `classes`, each of that `score`."""
    likely = np.full((1, len(classes), 4), (1 - score) / 3, np.float32)
    likely[0, np.arange(len(classes)), classes] = score
    if keys.get("activation") == "softmax":
        likely = np.log(likely) + 7
    output = CtcOutput("characters.json", **{"activation": "none", **keys})
    return decoder(folder, output=output).decode({"steps": likely}, Prepared({}), {"threshold": threshold}).structured


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([1, 2], "ab"),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 0, 2, 3, 3, 1, 0], "ab a"),
        ([1, 2, 1], "aba"),
    ],
)
def test_what_goes_on_is_one_character_and_a_blank_parts_two(tmp_path: Path, classes: list[int], text: str) -> None:
    assert read(tmp_path, classes) == {"text": text, "score": 0.9}


@pytest.mark.parametrize("classes", [[], [0, 0, 0]])
def test_there_may_be_no_text(tmp_path: Path, classes: list[int]) -> None:
    assert read(tmp_path, classes) == {"text": "", "score": 0.0}


def test_any_class_can_be_the_blank(tmp_path: Path) -> None:
    assert read(tmp_path, [1, 3, 1, 0], blank=3, threshold=0)["text"] == "aa"


def test_logits_are_put_through_a_softmax(tmp_path: Path) -> None:
    assert read(tmp_path, [1, 2], score=0.8, activation="softmax") == {"text": "ab", "score": pytest.approx(0.8, abs=1e-4)}


def test_a_text_that_scores_too_little_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, [1, 2], score=0.6, threshold=0.7) == {"text": "", "score": 0.0}


def test_the_score_is_the_mean_over_the_characters_alone(tmp_path: Path) -> None:
    likely = np.array([[[1.0, 0, 0, 0], [0, 0.5, 0, 0], [0, 0.9, 0, 0], [0, 0, 0.7, 0]]], np.float32)
    found = decoder(tmp_path).decode({"steps": likely}, Prepared({}), {"threshold": 0.0}).structured
    assert found == {"text": "ab", "score": 0.6}


def test_what_is_no_number_breaks_nothing(tmp_path: Path) -> None:
    likely = np.full((1, 5, 4), np.nan, np.float32)
    likely[0, 2, 1] = np.inf
    assert decoder(tmp_path).decode({"steps": likely}, Prepared({}), {"threshold": 0.0}).structured["text"] == "a"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"labels": CLASSES[:3]}, r"has shape \[-1, -1, 4\], but the manifest makes \[1, -1, 3\]"),
        ({"outputs": (STEPS, STEPS)}, "one output; this one has 2"),
        ({"output": CtcOutput("characters.json", blank=4)}, "output.blank is 4, but characters.json has 4"),
        ({"output": CtcOutput("none.txt")}, "none.txt cannot be read"),
        ({"output": SoftmaxOutput("characters.json")}, "ctc"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        decoder(tmp_path, **keys)
