"""The MCP revisions that are served, as enumerated values: never compared as strings."""

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions opened by `initialize`."""

BATCHES = "2025-03-26"
"""The one revision that has JSON-RPC batches (2025-06-18 removed them)."""

MODERN = ("2026-07-28",)
"""Revisions that carry their version in each request's `_meta` (2026-07-28, Versioning)."""


def negotiate(requested: str) -> str:
    """The legacy revision to answer `initialize` with: the requested one if served, else the latest (2025-11-25, Lifecycle)."""
    return requested if requested in LEGACY else LEGACY[-1]
