"""The catalogue of models."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_mcp.engine.messages import Described, Item, ModelSpec, Ran, Signature, TensorSpec
from edge_mcp.engine.watch import Tell
from edge_mcp.errors import EngineError, ModelError, RefusedError
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import scan
from edge_mcp.tools.models import ModelCatalogue

DESCRIBED = Described(Signature((TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (1,)),)), "0" * 64)


class Describing:
    """An engine that can only describe: each answer or error once, in order."""

    def __init__(self, *answers: Described | Exception) -> None:
        self.answers = list(answers)

    def is_ready(self, model: ModelSpec) -> bool:
        return False

    async def describe(self, path: str, signature: str = "") -> Described:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def load(self, model: ModelSpec) -> None:
        raise AssertionError("nothing is loaded for a list")

    async def unload(self, key: str) -> None:
        raise AssertionError("nothing is unloaded for a list")

    async def run(self, model: ModelSpec, items: Sequence[Item], tell: Tell | None = None) -> Ran:
        raise AssertionError("nothing is run for a list")


def catalogue(folder: Path, engine: Describing) -> ModelCatalogue:
    models = folder / "models"
    models.mkdir(exist_ok=True)
    for name in ("a.onnx", "b.onnx"):
        if not (models / name).exists():
            (models / name).write_bytes(b"a model")
    return ModelCatalogue(scan([models]), engine, Signatures(folder / "signatures"))


async def test_a_signature_is_asked_for_once_and_remembered(tmp_path: Path) -> None:
    assert list(await catalogue(tmp_path, Describing(DESCRIBED, DESCRIBED)).tools()) == ["a", "b"]
    assert list(await catalogue(tmp_path, Describing()).tools()) == ["a", "b"]


async def test_what_the_engine_could_not_read_for_its_own_reasons_is_tried_again(tmp_path: Path) -> None:
    tools = catalogue(tmp_path, Describing(EngineError("it died"), DESCRIBED, DESCRIBED))
    assert list(await tools.tools()) == ["b"]
    assert list(await tools.tools()) == ["a", "b"]


@pytest.mark.parametrize("error", [ModelError("no model"), RefusedError("it ends the engine")])
async def test_a_file_that_is_no_model_is_left_out_for_good(tmp_path: Path, error: Exception) -> None:
    tools = catalogue(tmp_path, Describing(error, DESCRIBED))
    assert list(await tools.tools()) == ["b"]
    assert list(await tools.tools()) == ["b"]
