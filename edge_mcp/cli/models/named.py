"""What the actions have in common: a model by its name, and JSON for people and for programs."""

import sys
from typing import Any

import msgspec

from edge_mcp.cli.arguments import nearest
from edge_mcp.errors import ConfigError
from edge_mcp.repository.store import Entry, Store


def named(name: str, store: Store) -> Entry:
    """A model by its own name or its tool's. Raises: ConfigError, with the nearest."""
    for entry in store.entries:
        if name in (entry.manifest.model.name, entry.manifest.tool.name):
            return entry
    known = [entry.manifest.model.name for entry in store.entries]
    raise ConfigError(f"there is no model {name!r}", nearest(name, known, "There are"))


def print_json(value: Any) -> None:
    """On several lines for a person, on one for a program."""
    encoded = msgspec.json.encode(value)
    print((msgspec.json.format(encoded, indent=2) if sys.stdout is not None and sys.stdout.isatty() else encoded).decode())
