"""Several rooms of prompts as one."""

from collections.abc import Mapping, Sequence

from edge_mcp.context import Context
from edge_mcp.prompts.base import PromptDefinition, PromptMessage, Prompts


class JoinedPrompts:
    """Their prompts one part after the other; of two of one name the first counts. See prompts.base.Prompts."""

    def __init__(self, parts: Sequence[Prompts]) -> None:
        self._parts = parts

    async def prompts(self) -> Sequence[PromptDefinition]:
        """See Prompts."""
        return [definition for part in self._parts for definition in await part.prompts()]

    async def get(self, name: str, arguments: Mapping[str, str], context: Context) -> Sequence[PromptMessage] | None:
        """See Prompts."""
        for part in self._parts:
            if (messages := await part.get(name, arguments, context)) is not None:
                return messages
        return None

    async def complete(self, name: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Prompts."""
        return [text for part in self._parts for text in await part.complete(name, argument, value, known)]
