"""The prompts of all devices, each under a name that tells whose it is."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edge_mcp.context import Context
from edge_mcp.errors import EdgeError
from edge_mcp.gateway.asking import asked
from edge_mcp.gateway.names import joined
from edge_mcp.gateway.resources import completed
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.prompts.base import PromptDefinition, PromptMessage


class GatewayPrompts:
    """See prompts.base.Prompts. `devices` are by prefix, those whose lists count now."""

    def __init__(self, devices: Callable[[], Mapping[str, Upstream]]) -> None:
        self._devices = devices

    async def prompts(self) -> Sequence[PromptDefinition]:
        """See Prompts."""
        return self.listed()

    def listed(self) -> list[PromptDefinition]:
        """All."""
        return [
            msgspec.structs.replace(prompt, name=name, title=f"{prompt.title or prompt.name} ({prefix})")
            for name, (prefix, _upstream, prompt) in self._known().items()
        ]

    async def get(self, name: str, arguments: Mapping[str, str], context: Context) -> Sequence[PromptMessage] | None:
        """See Prompts."""
        found = self._known().get(name)
        if found is None:
            return None
        _prefix, upstream, prompt = found
        answer = await asked(upstream, "prompts/get", {"name": prompt.name, "arguments": dict(arguments)}, context)
        try:
            return msgspec.convert(answer.get("messages"), list[PromptMessage])
        except msgspec.ValidationError as error:
            raise EdgeError(f"what {upstream.name} answers is not what MCP says: {error}") from error

    async def complete(self, name: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Prompts."""
        found = self._known().get(name)
        if found is None:
            return []
        reference = {"type": "ref/prompt", "name": found[2].name}
        return await completed(found[1], reference, argument, value, known)

    def _known(self) -> dict[str, tuple[str, Upstream, PromptDefinition]]:
        return {
            joined(prefix, prompt.name): (prefix, upstream, prompt)
            for prefix, upstream in self._devices().items()
            for prompt in upstream.prompts
        }
