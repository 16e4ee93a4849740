"""The argument `audio` -> sound that can be decoded, and what a call says of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.payload import read_payload
from edge_mcp.engine.host.modalities.sound import Clip, RawFormat, sniffed
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ArgumentError
from edge_mcp.repository.inputs import AudioInput

_STREAM = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_RAW_URI = re.compile(r"data:audio/(?:l\d+|pcm|basic)\b", re.IGNORECASE)
_WAYS = "Send WAV, FLAC or OGG (Vorbis or Opus); or raw PCM, with the argument rate"


@dataclass(frozen=True, slots=True)
class Sound:
    """What a call brings. `clip` is None for no sound at all, which only the `end` of a `stream` may be."""

    clip: Clip | None
    stream: str = ""
    end: bool = False


class AudioModality:
    """Opens the sound. It is decoded, resampled and made the model's tensors step by step while the model runs."""

    def __init__(self, config: AudioInput, inputs: Sequence[TensorSpec], folder: Path) -> None:
        self._max_seconds = config.max_seconds

    def prepare(self, arguments: Mapping[str, Any], roots: Sequence[Path]) -> Prepared:
        """No tensors; the source is a `Sound`. A piece of a stream is decoded once for what may be wrong with it, so that
        it is taken whole or not at all. Raises: ArgumentError."""
        stream, end = arguments.get("stream", ""), arguments.get("end", False)
        if "stream" in arguments and not _STREAM.fullmatch(stream):
            raise ArgumentError(
                f"argument stream is {stream[:70]!r}", "Write 1 to 64 letters, digits, '_', '-', '.' or ':' of your choice"
            )
        if end and not stream:
            raise ArgumentError("argument end is for a stream, and there is none", "Name it with the argument stream")
        data = read_payload(arguments["audio"], roots)
        if not data and end:
            return Prepared({}, Sound(None, stream, end))
        clip = self._clip(data, arguments)
        if stream:
            clip.check()
        return Prepared({}, Sound(clip, stream, end))

    def _clip(self, data: bytes, arguments: Mapping[str, Any]) -> Clip:
        if not data:
            raise ArgumentError("the sound is empty: it has no bytes", _WAYS)
        raw = None
        if "rate" in arguments:
            raw = RawFormat(arguments["rate"], arguments["channels"], arguments["format"])
        elif sniffed(data) is None:
            if isinstance(arguments["audio"], str) and _RAW_URI.match(arguments["audio"]):
                raise ArgumentError(
                    "raw PCM needs the argument rate", "And channels, unless one; and format: s16be as RFC 2586 says, or s16le"
                )
            raise ArgumentError(f"{len(data)} bytes that begin with {data[:8]!r} are no sound that can be read", _WAYS)
        clip = Clip(data, raw, self._max_seconds)
        if clip.frames == 0 and "stream" not in arguments:
            raise ArgumentError("the sound is empty: it has no samples")
        return clip
