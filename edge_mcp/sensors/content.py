"""What a sensor gave, told by its first bytes. Pure."""

from dataclasses import dataclass

_STARTS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
WORDS = {"image": "a picture (JPEG, PNG, WebP, BMP, GIF)", "audio": "sound (WAV, FLAC, OGG)"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a sensor gave at one moment: a picture, or the sound of a while."""

    mime_type: str
    data: bytes


def mime_type(data: bytes) -> str:
    """The MIME type of a picture or sound; empty when it is neither."""
    if data[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(data[8:12], "")
    return next((mime for start, mime in _STARTS if data.startswith(start)), "")
