"""The seam between the server and its prompts."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from edge_mcp.context import Context


class PromptArgument(msgspec.Struct, frozen=True, omit_defaults=True):
    """An argument of a prompt."""

    name: str
    title: str = ""
    description: str = ""
    required: bool = False


class PromptDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prompt as `prompts/list` shows it."""

    name: str
    title: str = ""
    description: str = ""
    arguments: tuple[PromptArgument, ...] = ()


class PromptMessage(msgspec.Struct, frozen=True):
    """One message: `role` is user or assistant, `content` one content block."""

    role: str
    content: dict[str, Any]

    @classmethod
    def user(cls, text: str) -> "PromptMessage":
        """What the user says."""
        return cls("user", {"type": "text", "text": text})


class Prompts(Protocol):
    """Some prompts."""

    async def prompts(self) -> Sequence[PromptDefinition]:
        """All of them, in a stable order."""
        ...

    async def get(self, name: str, arguments: Mapping[str, str], context: Context) -> Sequence[PromptMessage] | None:
        """The messages of a prompt; None when it is not one of these. Raises: EdgeError."""
        ...

    async def complete(self, name: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """Values of a prompt's argument that begin with `value`; `known` are the other arguments."""
        ...
