"""What the actions have in common: a model by its name, and JSON for people and for programs."""

import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.cli.arguments import nearest
from edge_mcp.errors import ConfigError
from edge_mcp.repository.entry import bare_name
from edge_mcp.repository.manifest import MANIFEST_NAME, SUFFIXES
from edge_mcp.repository.store import Entry, Store


def named(name: str, store: Store) -> Entry:
    """A model by its own name or its tool's. Raises: ConfigError, with what is wrong with it, or the nearest."""
    for entry in store.entries:
        if name in (entry.manifest.model.name, entry.manifest.tool.name):
            return entry
    for problem in store.problems:
        if _is_about(problem, name):
            raise ConfigError(f"{name} is left out: {problem}")
    known = [entry.manifest.model.name for entry in store.entries]
    raise ConfigError(f"there is no model {name!r}", nearest(name, known, "There are"))


def _is_about(problem: str, name: str) -> bool:
    """Whether a problem's first path is that of the model `name`: its folder, a file in it, or a bare file."""
    path = Path(re.split(r": | has | is ", problem, maxsplit=1)[0])
    if path.name == MANIFEST_NAME:
        path = path.parent
    return name == (bare_name(path) if path.suffix in SUFFIXES else path.name)


def print_json(value: Any) -> None:
    """On several lines for a person, on one for a program."""
    encoded = msgspec.json.encode(value)
    print((msgspec.json.format(encoded, indent=2) if sys.stdout is not None and sys.stdout.isatty() else encoded).decode())
