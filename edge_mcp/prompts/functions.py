"""Python functions as prompts."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from edge_mcp.context import Context
from edge_mcp.errors import ConfigError, EdgeError
from edge_mcp.functions import Function, answer_of
from edge_mcp.prompts.base import PromptArgument, PromptDefinition, PromptMessage
from edge_mcp.protocol.content import as_block

Complete = Callable[[str, Mapping[str, str]], Sequence[str] | Awaitable[Sequence[str]]]


class FunctionPrompt:
    """One function as a prompt; its parameters are the prompt's arguments.

    It returns one message or a list of them: a text or a content block (then the user says it), or a `PromptMessage`.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None, title: str = "", description: str = "") -> None:
        self._function = Function(function)
        self._function.name = name = name or self._function.name
        described = self._function.schema.get("properties", {})
        self.definition = PromptDefinition(
            name,
            title,
            description or self._function.description,
            tuple(
                PromptArgument(p.name, description=described[p.name].get("description", ""), required=p.default is p.empty)
                for p in self._function.parameters
            ),
        )

    async def get(self, arguments: Mapping[str, str], context: Context) -> Sequence[PromptMessage]:
        """Its messages. Raises: EdgeError."""
        values = self._function.convert(arguments)
        try:
            value = await self._function.call(values, context)
        except ValueError as error:
            raise EdgeError(str(error)) from error
        return [_message(part) for part in (value if isinstance(value, list | tuple) else [value])]


class FunctionPrompts:
    """The prompts written in Python; see prompts.base.Prompts. `taken` are names that others have."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._taken = taken
        self._prompts: dict[str, FunctionPrompt] = {}
        self._completions: dict[tuple[str, str], Complete] = {}

    def add(self, prompt: FunctionPrompt) -> None:
        """Raises: ConfigError when there is one of this name."""
        name = prompt.definition.name
        if name in self._prompts or name in self._taken:
            raise ConfigError(f"there is a prompt {name} already", "Give one of them another name")
        self._prompts = {**self._prompts, name: prompt}

    def remove(self, name: str) -> None:
        """Raises: ConfigError when there is none of this name."""
        if name not in self._prompts:
            raise ConfigError(f"there is no prompt {name} of yours")
        self._prompts = {known: prompt for known, prompt in self._prompts.items() if known != name}

    def completes(self, name: str, argument: str, complete: Complete) -> None:
        """Let a function complete a prompt's argument. Raises: ConfigError when there is no such argument."""
        prompt = self._prompts.get(name)
        if prompt is None or argument not in {known.name for known in prompt.definition.arguments}:
            raise ConfigError(f"there is no prompt {name} of yours with the argument {argument}")
        self._completions[name, argument] = complete

    async def prompts(self) -> Sequence[PromptDefinition]:
        """See Prompts."""
        return [prompt.definition for prompt in self._prompts.values()]

    async def get(self, name: str, arguments: Mapping[str, str], context: Context) -> Sequence[PromptMessage] | None:
        """See Prompts."""
        prompt = self._prompts.get(name)
        return None if prompt is None else await prompt.get(arguments, context)

    async def complete(self, name: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Prompts."""
        complete = self._completions.get((name, argument))
        values: Sequence[str] = await answer_of(complete, value, known) if complete else []
        return values


def _message(value: Any) -> PromptMessage:
    if isinstance(value, PromptMessage):
        return value
    block = as_block(value)
    if block is None:
        raise TypeError(f"a prompt is made of texts, content blocks and PromptMessages, not of {type(value).__name__}")
    return PromptMessage("user", block)
