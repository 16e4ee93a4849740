"""A model that needs neither the other runtime nor Pillow does not load them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from pathlib import Path
from edge_mcp.engine.host.served import ServedModel
from edge_mcp.engine.messages import ModelSpec
from edge_mcp.repository import manifest
folder = Path(sys.argv[1])
ServedModel.load(ModelSpec("x", str(folder), manifest.read(folder), {}))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("name", "used", "unused"),
    [
        ("language-detector", {"onnxruntime"}, {"ai_edge_litert", "PIL"}),
        ("face-detector", {"ai_edge_litert", "PIL"}, {"onnxruntime"}),
        ("speech-detector", {"onnxruntime", "soundfile", "soxr"}, {"ai_edge_litert", "PIL", "pymicro_features"}),
        ("wake-word-detector", {"ai_edge_litert", "soundfile", "pymicro_features"}, {"onnxruntime", "PIL"}),
    ],
)
def test_only_what_a_model_needs_is_imported(name: str, used: set[str], unused: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(ROOT / "models" / name)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert used <= loaded
    assert not (unused | {"asyncio", "aiohttp", "zeroconf"}) & loaded
