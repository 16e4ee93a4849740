"""Content blocks, as tools answer them and prompts show them, besides plain text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

KINDS = frozenset({"text", "image", "audio", "resource", "resource_link"})


@runtime_checkable
class Block(Protocol):
    """Something that goes into a result as one content block."""

    def block(self) -> dict[str, Any]:
        """As MCP has it; bytes are encoded as base64 when it is sent."""
        ...


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: the bytes of a PNG or JPEG file."""

    data: bytes
    mime_type: str = "image/png"

    def block(self) -> dict[str, Any]:
        """See Block."""
        return {"type": "image", "data": self.data, "mimeType": self.mime_type}


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound: the bytes of a WAV or MP3 file."""

    data: bytes
    mime_type: str = "audio/wav"

    def block(self) -> dict[str, Any]:
        """See Block."""
        return {"type": "audio", "data": self.data, "mimeType": self.mime_type}


@dataclass(frozen=True, slots=True)
class EmbeddedResource:
    """What a resource holds, sent along: its text, or its bytes."""

    uri: str
    content: str | bytes
    mime_type: str = ""

    def block(self) -> dict[str, Any]:
        """See Block."""
        field = "text" if isinstance(self.content, str) else "blob"
        kind = {"mimeType": self.mime_type} if self.mime_type else {}
        return {"type": "resource", "resource": {"uri": self.uri, **kind, field: self.content}}


@dataclass(frozen=True, slots=True)
class ResourceLink:
    """A resource that the client may read itself."""

    uri: str
    name: str
    title: str = ""
    description: str = ""
    mime_type: str = ""

    def block(self) -> dict[str, Any]:
        """See Block."""
        more = {"title": self.title, "description": self.description, "mimeType": self.mime_type}
        return {
            "type": "resource_link",
            "uri": self.uri,
            "name": self.name,
            **{key: text for key, text in more.items() if text},
        }


def as_block(value: object) -> dict[str, Any] | None:
    """`value` as a content block: a text, one of the above, or a dict that is one already; None for anything else."""
    if isinstance(value, str):
        return {"type": "text", "text": value}
    if isinstance(value, Block):
        return value.block()
    if isinstance(value, Mapping) and value.get("type") in KINDS:
        return dict(value)
    return None
