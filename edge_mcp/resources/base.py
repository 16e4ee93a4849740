"""The seam between the server and what can be read."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from edge_mcp.context import Context


class ResourceDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A resource as `resources/list` shows it; `size` in bytes."""

    uri: str
    name: str
    title: str = ""
    description: str = ""
    mimeType: str = ""
    size: int | None = None
    annotations: dict[str, Any] | None = None


class TemplateDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A family of resources as `resources/templates/list` shows it (RFC 6570, level 1)."""

    uriTemplate: str
    name: str
    title: str = ""
    description: str = ""
    mimeType: str = ""


class Contents(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a resource holds: `text`, or `blob` (bytes, or base64 of them)."""

    uri: str
    mimeType: str = ""
    text: str | msgspec.UnsetType = msgspec.UNSET
    blob: str | bytes | msgspec.UnsetType = msgspec.UNSET


class Resources(Protocol):
    """Some resources."""

    async def resources(self) -> Sequence[ResourceDefinition]:
        """Those that can be listed, in a stable order."""
        ...

    async def templates(self) -> Sequence[TemplateDefinition]:
        """Families of resources, in a stable order."""
        ...

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """What `uri` holds; None when it is not one of these. Raises: EdgeError."""
        ...

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """Values of a template's variable that begin with `value`; `known` are the other variables."""
        ...
