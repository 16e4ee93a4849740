"""What a tool answered."""

import binascii
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from edge_mcp.client.values import arrays, binary
from edge_mcp.errors import BusyError, CallError, EdgeError, EngineError, ToolError
from edge_mcp.protocol.codec import Codec
from edge_mcp.protocol.messages import ToolResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

RETRY = "io.edge-mcp/retry"
STOPPING = "stopping"
"""The reason of a server that is about to restart: another connection will do."""


class _Retry(msgspec.Struct):
    retryAfterMs: int
    reason: str = ""


class Result:
    """A tool's answer, the same whether it came as JSON or as MessagePack."""

    def __init__(self, answer: ToolResult, codec: Codec) -> None:
        self._answer = answer
        self._codec = codec

    @cached_property
    def structured(self) -> Any:
        """`structuredContent` as JSON has it, with bytes as base64; None where the tool has none."""
        value = self._answer.structuredContent
        return None if value is msgspec.UNSET else self._codec.plain(value)

    @cached_property
    def content(self) -> list[dict[str, Any]]:
        """The content blocks as JSON has them, with bytes as base64."""
        return [self._codec.plain(block) for block in _blocks(self._answer)]

    @property
    def text(self) -> str:
        """The text blocks, each from a line of its own on."""
        return _text(self._answer)

    @property
    def images(self) -> list[bytes]:
        """The pictures among the content, as files: PNG or JPEG. Raises: CallError."""
        try:
            return [binary(block.get("data", "")) for block in _blocks(self._answer) if block.get("type") == "image"]
        except (binascii.Error, ValueError, TypeError) as error:
            raise CallError(f"a picture in the answer is not valid base64: {error}") from error

    @property
    def arrays(self) -> "dict[str, NDArray[Any]]":
        """The tensors of a tool that answers some, by their names; numpy has to be imported before. Raises: CallError."""
        return arrays(self._answer.structuredContent)

    def refusal(self, tool: str) -> EdgeError | None:
        """The error that the answer of `tool` is: ToolError where it failed, BusyError or EngineError where it may be called
        again. None where it succeeded."""
        if not self._answer.isError:
            return None
        words = self.text or f"{tool} failed without saying why"
        try:
            retry = msgspec.convert(self._answer.meta[RETRY], _Retry)
        except (TypeError, KeyError, msgspec.ValidationError):
            return ToolError(words)
        if retry.reason:
            return BusyError(words, "", retry.retryAfterMs, retry.reason)
        return EngineError(words, "", retry.retryAfterMs)

    def __repr__(self) -> str:
        return f"<Result {self.text[:200]}>"


def _blocks(answer: ToolResult) -> list[dict[str, Any]]:
    content = answer.content if isinstance(answer.content, list) else []
    return [block for block in content if isinstance(block, dict)]


def _text(answer: ToolResult) -> str:
    return "\n".join(str(block.get("text", "")) for block in _blocks(answer) if block.get("type") == "text")
