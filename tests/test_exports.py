"""What `import edge_mcp` offers, and what it must not load."""

import subprocess
import sys

import edge_mcp

SNIPPET = """
import sys
before = set(sys.modules)
import edge_mcp
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_public_names_are_pinned() -> None:
    assert edge_mcp.__all__ == ["__version__"]


def test_every_public_name_is_there() -> None:
    assert all(hasattr(edge_mcp, name) for name in edge_mcp.__all__)


def test_importing_loads_nothing_else() -> None:
    fresh = subprocess.run([sys.executable, "-I", "-c", SNIPPET], capture_output=True, text=True, check=True, timeout=60)
    assert fresh.stdout.split() == ["edge_mcp"]
