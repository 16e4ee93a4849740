"""The models that ship, on the processors of Raspberry Pis: emulated, and so slowly, but with the wheels that go there."""

import asyncio
import base64
import math
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.device.boards import BOARDS, Board
from tests.processes import ROOT, SERVE, serving

FIXTURES = ROOT / "tests" / "fixtures"


def inline(name: str) -> str:
    return base64.b64encode((FIXTURES / name).read_bytes()).decode()


CALLS: dict[str, dict[str, Any]] = {
    "detect_objects": {"image": inline("chelsea.png")},
    "classify_image": {"image": inline("flower.jpg")},
    "detect_faces": {"image": inline("astronaut.png")},
    "detect_language": {"text": "Wo bitte geht es hier zum Bahnhof?"},
    "identify_file": {"data": inline("chelsea.png")},
    "detect_speech": {"audio": inline("sounds/goforward.wav")},
    "detect_wake_word": {"audio": inline("sounds/en-us_okay_nabu.flac")},
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the bundle for a Pi."""
    folder = tmp_path_factory.mktemp("wheels")
    options = ["--arch", "aarch64", "--python", "3.13", "--output", str(folder / "bundle.tar")]
    ended = subprocess.run(
        [sys.executable, str(ROOT / "scripts/bundle"), *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    with tarfile.open(folder / "bundle.tar") as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("*/wheels"))


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What this machine answers."""
    return asyncio.run(answers(SERVE))


async def answers(program: Sequence[str]) -> dict[str, Any]:
    given = {}
    async with serving("--stdio", program=program) as served:
        for tool, arguments in CALLS.items():
            result = await served.call(tool, **arguments)
            assert not result.get("isError"), result
            given[tool] = result["structuredContent"]
            del given[tool]["inference_ms"]
    return given


@pytest.mark.parametrize("name", BOARDS)
def test_every_model_answers_on_a_board_what_it_answers_here(
    name: str, wheels: Path, here: dict[str, Any], tmp_path: Path
) -> None:
    board = Board(name, tmp_path / name, wheels)
    alike(asyncio.run(answers(board.command("python3", "-m", "edge_mcp", "serve"))), here)


def alike(there: Any, here: Any, where: str = "") -> None:
    """Equal; but ARM's instructions round the int8 detector otherwise, by one step of what it makes its scores of."""
    if isinstance(here, dict):
        assert there.keys() == here.keys(), where
        for key in here:
            alike(there[key], here[key], f"{where}/{key}")
    elif isinstance(here, list):
        assert len(there) == len(here), where
        for index, pair in enumerate(zip(there, here, strict=True)):
            alike(*pair, f"{where}/{index}")
    elif isinstance(here, float):
        step = 0.02 if where.startswith("/detect_objects/") and where.endswith("/score") else 0.001
        assert math.isclose(there, here, rel_tol=1e-3, abs_tol=step), f"{where}: {there}, here {here}"
    else:
        assert there == here, where
