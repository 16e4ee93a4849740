"""Models that are loaded at the start."""

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from edge_mcp.engine.client import Engine
from edge_mcp.errors import EdgeError
from edge_mcp.repository.store import Store
from edge_mcp.tools.base import Catalogue
from edge_mcp.tools.model_tool import ModelTool

logger = logging.getLogger(__name__)


async def preload(store: Store, catalogue: Catalogue, engine: Engine, names: Iterable[str]) -> None:
    """Load, one after the other, the models of these names, and those whose manifests ask for it. What cannot be loaded is
    logged; its next call tries again."""
    names = set(names)
    known = {entry.manifest.model.name: entry.manifest.resources.preload for entry in store.entries}
    for name in names:
        if name not in known:
            logger.error("preload: there is no model %r. %s", name, _nearest(name, known))
    wanted = {name for name, asks in known.items() if asks or name in names}
    if not wanted:
        return
    tools = (await catalogue.tools()).values()
    specs = [tool.spec for tool in tools if isinstance(tool, ModelTool) and tool.spec.manifest.model.name in wanted]
    for spec in specs:
        try:
            await engine.load(spec)
        except EdgeError as error:
            logger.error("preload: %s", error)
    gone = [spec.manifest.model.name for spec in specs if not engine.is_ready(spec)]
    if gone:
        logger.warning("preload: not in memory, because all do not fit or cannot be loaded: %s", ", ".join(gone))


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}"
