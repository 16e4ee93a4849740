"""What `import edge_mcp` offers, and what it must not load."""

import json
import subprocess
import sys
from pathlib import Path

import edge_mcp
import edge_mcp.api

SNIPPET = """
import sys
before = set(sys.modules)
import edge_mcp
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_public_names_are_pinned() -> None:
    names = ["Audio", "Context", "EmbeddedResource", "Image", "PromptMessage", "ResourceLink", "Server", "__version__"]
    assert edge_mcp.__all__ == names
    assert set(names) - {"__version__"} == set(edge_mcp.api.__all__)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(edge_mcp, name) for name in edge_mcp.__all__)


def test_the_stub_has_the_same_names() -> None:
    stub = Path(edge_mcp.__file__).with_suffix(".pyi").read_text("utf-8")
    assert f"__all__ = {json.dumps(edge_mcp.__all__)}" in stub


def test_importing_loads_nothing_else() -> None:
    fresh = subprocess.run([sys.executable, "-I", "-c", SNIPPET], capture_output=True, text=True, check=True, timeout=60)
    assert fresh.stdout.split() == ["edge_mcp"]
