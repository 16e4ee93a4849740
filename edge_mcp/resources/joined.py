"""Several rooms of resources as one."""

from collections.abc import Mapping, Sequence

from edge_mcp.context import Context
from edge_mcp.resources.base import Contents, ResourceDefinition, Resources, TemplateDefinition


class JoinedResources:
    """Their resources one part after the other; of two of one URI the first counts. See resources.base.Resources."""

    def __init__(self, parts: Sequence[Resources]) -> None:
        self._parts = parts

    async def resources(self) -> Sequence[ResourceDefinition]:
        """See Resources."""
        return [definition for part in self._parts for definition in await part.resources()]

    async def templates(self) -> Sequence[TemplateDefinition]:
        """See Resources."""
        return [definition for part in self._parts for definition in await part.templates()]

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources."""
        for part in self._parts:
            if (contents := await part.read(uri, context)) is not None:
                return contents
        return None

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Resources."""
        return [text for part in self._parts for text in await part.complete(template, argument, value, known)]
