"""Python functions as resources."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from edge_mcp.context import Context
from edge_mcp.errors import ConfigError, EdgeError
from edge_mcp.functions import Function, answer_of
from edge_mcp.resources.base import Contents, ResourceDefinition, TemplateDefinition

Complete = Callable[[str, Mapping[str, str]], Sequence[str] | Awaitable[Sequence[str]]]
_VARIABLE = re.compile(r"\{(\w+)\}")


class FunctionResource:
    """One function as a resource, or as a family of them when the URI has `{variables}`, which are its parameters then.

    It returns a text, bytes, `Contents` or a list of them; anything else is JSON text; None: there is no such resource.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        uri: str,
        name: str = "",
        title: str = "",
        description: str = "",
        mime_type: str = "",
    ) -> None:
        self._function = Function(function)
        self.uri = uri
        self.variables = _VARIABLE.findall(uri)
        if sorted(self.variables) != sorted(parameter.name for parameter in self._function.parameters):
            raise ConfigError(f"{uri}: its variables and the parameters of {self._function.name} are not the same")
        self._mime_type = mime_type
        self._pattern = template_pattern(uri)
        described: dict[str, Any] = {
            "name": name or self._function.name,
            "title": title,
            "description": description or self._function.description,
            "mimeType": mime_type,
        }
        self.definition: ResourceDefinition | TemplateDefinition = (
            TemplateDefinition(uri, **described) if self.variables else ResourceDefinition(uri, **described)
        )

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources."""
        match = self._pattern.fullmatch(uri)
        if match is None:
            return None
        values = self._function.convert({name: unquote(text) for name, text in match.groupdict().items()})
        try:
            value = await self._function.call(values, context)
        except ValueError as error:
            raise EdgeError(str(error)) from error
        return None if value is None else self._contents(uri, value)

    def _contents(self, uri: str, value: Any) -> Sequence[Contents]:
        if isinstance(value, list | tuple) and value and all(isinstance(part, Contents) for part in value):
            return value
        match value:
            case Contents():
                return [value]
            case str():
                return [Contents(uri, self._mime_type or "text/plain", text=value)]
            case bytes() | bytearray() | memoryview():
                return [Contents(uri, self._mime_type or "application/octet-stream", blob=bytes(value))]
        return [Contents(uri, self._mime_type or "application/json", text=msgspec.json.encode(value).decode())]


class FunctionResources:
    """The resources written in Python; see resources.base.Resources. `taken` begins the URIs that others have."""

    def __init__(self, taken: tuple[str, ...] = ()) -> None:
        self._taken = taken
        self._resources: dict[str, FunctionResource] = {}
        self._completions: dict[tuple[str, str], Complete] = {}

    def add(self, resource: FunctionResource) -> None:
        """Raises: ConfigError when there is one of this URI."""
        if resource.uri in self._resources or resource.uri.startswith(self._taken):
            raise ConfigError(f"there is a resource {resource.uri} already")
        self._resources = {**self._resources, resource.uri: resource}

    def remove(self, uri: str) -> None:
        """Raises: ConfigError when there is none of this URI (or template)."""
        if uri not in self._resources:
            raise ConfigError(f"there is no resource {uri} of yours")
        self._resources = {known: resource for known, resource in self._resources.items() if known != uri}

    def completes(self, template: str, variable: str, complete: Complete) -> None:
        """Let a function complete a template's variable. Raises: ConfigError when there is no such variable."""
        resource = self._resources.get(template)
        if resource is None or variable not in resource.variables:
            raise ConfigError(f"there is no template {template} of yours with the variable {variable}")
        self._completions[template, variable] = complete

    async def resources(self) -> Sequence[ResourceDefinition]:
        """See Resources."""
        known = [resource.definition for resource in self._resources.values()]
        return [definition for definition in known if isinstance(definition, ResourceDefinition)]

    async def templates(self) -> Sequence[TemplateDefinition]:
        """See Resources."""
        known = [resource.definition for resource in self._resources.values()]
        return [definition for definition in known if isinstance(definition, TemplateDefinition)]

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources. A resource of this very URI goes before a template."""
        if exact := self._resources.get(uri):
            return await exact.read(uri, context)
        for resource in self._resources.values():
            if resource.variables and (contents := await resource.read(uri, context)) is not None:
                return contents
        return None

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Resources."""
        complete = self._completions.get((template, argument))
        values: Sequence[str] = await answer_of(complete, value, known) if complete else []
        return values


def template_pattern(template: str) -> re.Pattern[str]:
    """What matches the URIs of a template of RFC 6570, level 1: a variable is anything but `/`, `?` and `#`."""
    parts = _VARIABLE.split(template)
    texts = [re.escape(part) if index % 2 == 0 else f"(?P<{part}>[^/?#]+)" for index, part in enumerate(parts)]
    return re.compile("".join(texts))
