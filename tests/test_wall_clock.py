"""The wall clock jumps by decades when a time server sets it: what depends on it is listed here, with why it may."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "edge_mcp"
MAY = {
    "doctor/clock.py": "says what it shows",
    "load/doctor.py": "hands it to the one above",
    "pairing/device.py": "when a host was paired, for its owner to read; nothing expires by it",
    "cli/token.py": "prints that",
    "tasks.py": "createdAt and lastUpdatedAt of a task, which MCP asks for; it ends by the monotonic clock",
}
ASKED = {"time", "time_ns", "localtime", "gmtime", "ctime", "now", "utcnow", "today"}


def asks(module: Path) -> bool:
    """Whether it has the time of day from the modules time or datetime."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ASKED
        and isinstance(node.value, ast.Name)
        and node.value.id in ("time", "datetime", "date")
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
    )


def test_only_what_shows_the_time_asks_for_it() -> None:
    found = {str(module.relative_to(PACKAGE)) for module in PACKAGE.rglob("*.py") if asks(module)}
    assert found == set(MAY)
