"""Several catalogues as one."""

from collections.abc import Mapping, Sequence

from edge_mcp.tools.base import Catalogue, Tool


class JoinedTools:
    """Their tools one catalogue after the other; of two of one name the first counts. See tools.base.Catalogue."""

    def __init__(self, parts: Sequence[Catalogue]) -> None:
        self._parts = parts
        self._seen: list[Mapping[str, Tool]] = []
        self._joined: Mapping[str, Tool] = {}

    async def tools(self) -> Mapping[str, Tool]:
        """See Catalogue. A part's mapping that changed must be another object."""
        seen = [await part.tools() for part in self._parts]
        if len(seen) != len(self._seen) or any(new is not old for new, old in zip(seen, self._seen, strict=True)):
            joined: dict[str, Tool] = {}
            for part in seen:
                joined |= {name: tool for name, tool in part.items() if name not in joined}
            self._seen, self._joined = seen, joined
        return self._joined
