"""Where a model comes from, which other versions of it are kept, and what was refused: for people who look at a device."""

import msgspec

from edge_mcp.config import shipped_models
from edge_mcp.repository.entry import Entry
from edge_mcp.repository.versions import Versions


class Origin(msgspec.Struct, frozen=True):
    """`how` is "shipped", "dropped in", "added", or "in place" (a folder that is only read).

    `source` is what was dropped in, `kept` the other versions that are kept, `highest` the highest that ever was active,
    `refused` why the source as it is now is not served, `waiting` a changed source that a running server has yet to prove.
    """

    how: str
    source: str = ""
    kept: tuple[str, ...] = ()
    highest: str = ""
    refused: str = ""
    waiting: str = ""


def origin(entry: Entry) -> Origin:
    """What is known of a model besides its manifest."""
    repository, name = entry.repository, entry.manifest.model.name
    versions = Versions.of(repository) if repository else None
    if repository is None or versions is None:
        shipped = repository is not None and repository.resolve() == shipped_models().resolve()
        return Origin("shipped" if shipped else "in place", str(entry.file if entry.bare else entry.folder))
    model = versions.state().model(name)
    waiting = next((str(source.path) for source in versions.candidates() if source.name == name), "")
    if not model.active:
        return Origin("dropped in", waiting, waiting=waiting)
    kept = tuple(dict.fromkeys(version.version for version in model.versions if version.folder != model.active))
    source = str(repository / model.source.path) if model.source else ""
    refused = model.refused.reason if model.refused and not waiting else ""
    return Origin("dropped in" if source else "added", source, kept, model.highest, refused, waiting)
