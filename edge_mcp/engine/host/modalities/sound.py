"""Sound files and raw PCM -> one channel of samples, block by block; the only module that imports `soundfile`."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import soundfile

from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.host.runtimes.checks import one_line
from edge_mcp.errors import ArgumentError

BLOCK = 16_384
"""Samples of one channel that are decoded at once."""
MAX_RATE = 384_000
MIN_RATE = 1000
MAX_CHANNELS = 32
MAX_DECODED = 2**28
"""Samples of all channels that a call may decode: 10 minutes of eight channels at 48 kHz. A FLAC of silence packs 1000 to 1."""

_MAGIC = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "OGG"}
_SUBTYPES = {
    "WAV": {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"},
    "WAVEX": {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"},
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
    "OGG": {"VORBIS", "OPUS"},
}
_PACKED = frozenset({"FLAC", "OGG"})
_UNKNOWN = 2**62  # libsndfile says 2^63 - 1 where a writer left the length open
# libsndfile's name of the coding, its byte order, and the bytes of a sample
RAW = {
    "s16le": ("PCM_16", "LITTLE", 2),
    "s16be": ("PCM_16", "BIG", 2),
    "s24le": ("PCM_24", "LITTLE", 3),
    "s32le": ("PCM_32", "LITTLE", 4),
    "f32le": ("FLOAT", "LITTLE", 4),
    "u8": ("PCM_U8", "FILE", 1),
    "mulaw": ("ULAW", "FILE", 1),
    "alaw": ("ALAW", "FILE", 1),
}
"""The codings of raw PCM, by the names that FFmpeg has for them too."""

_WAYS = "Send WAV, FLAC or OGG (Vorbis or Opus); or raw PCM, with the argument rate"


class RawFormat(NamedTuple):
    """What raw PCM does not say of itself; `coding` is one of `RAW`."""

    rate: int
    channels: int
    coding: str


class Clip:
    """Sound as it came. `rate` and `channels` are its own; `frames` is how many samples of each channel it says that it has;
    None: it does not say."""

    def __init__(self, data: bytes, raw: RawFormat | None, max_seconds: int) -> None:
        """Reads the header. Raises: ArgumentError (no sound, of a kind that is not read, or too long)."""
        self._data = data
        self._raw = raw if sniffed(data) is None else None
        self._max_seconds = max_seconds
        if raw is not None and self._raw is not None:
            _check_bounds(raw.rate, raw.channels)
            _check_raw(data, raw)
        with self._opened() as file:
            self._kind: str = file.format
            self.rate: int = file.samplerate
            self.channels: int = file.channels
            self.frames: int | None = file.frames if file.frames < _UNKNOWN else None
            subtype: str = file.subtype
        self._check(subtype, raw)

    def blocks(self) -> Iterator[Array]:
        """Float32 [1 to BLOCK], from -1 to 1: the mean of the channels. Raises: ArgumentError."""
        done = 0
        with self._opened() as file:
            while True:
                try:
                    block = file.read(BLOCK, dtype="float32", always_2d=True)
                except (soundfile.SoundFileError, RuntimeError) as error:
                    raise ArgumentError(f"the sound is damaged after {done / self.rate:.2f} s: {_reason(error)}") from error
                if not len(block):
                    break
                done += len(block)
                self._check_length(done)
                yield _mono(block)
        if self._kind in _PACKED and self.frames is not None and done < self.frames:
            raise ArgumentError(
                f"the sound ends after {done / self.rate:.2f} s of {self.frames / self.rate:.2f} s: it is cut off or damaged",
                "Send each piece as a file of its own",
            )

    def check(self) -> None:
        """Decode it all, for what is wrong with it. Raises: ArgumentError."""
        for _ in self.blocks():
            pass

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        # A descriptor: for anything else soundfile makes callbacks at run time, which on ARM needs memory that is writable and
        # executable, and a hardened service (MemoryDenyWriteExecute=) has none.
        with os.fdopen(os.memfd_create("sound", os.MFD_CLOEXEC), "w+b", buffering=0) as source:
            _fill(source, self._data)
            try:
                if self._raw is None:
                    file = soundfile.SoundFile(source.fileno(), closefd=False)
                else:
                    subtype, endian, _ = RAW[self._raw.coding]
                    how = (self._raw.rate, self._raw.channels, subtype, endian, "RAW")
                    file = soundfile.SoundFile(source.fileno(), "r", *how, closefd=False)
            except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
                kind = sniffed(self._data) or "sound"
                raise ArgumentError(f"the {kind} cannot be read: {_reason(error)}", _WAYS) from error
            # It would seek to where it is after each read, which costs a decoder much, and fails where the length is not known.
            file.seekable = _never
            with file:
                yield file

    def _check(self, subtype: str, raw: RawFormat | None) -> None:
        if self._raw is None and subtype not in _SUBTYPES.get(self._kind, ()):
            raise ArgumentError(f"{self._kind} with {subtype} is not read", _WAYS)
        _check_bounds(self.rate, self.channels)
        if raw is not None and raw.rate != self.rate:
            raise ArgumentError(
                f"argument rate is {raw.rate}, but the {self._kind} says {self.rate} itself",
                "Leave rate out: it is for raw PCM",
            )
        if self._kind in _PACKED and self.frames is not None:
            self._check_length(self.frames)

    def _check_length(self, frames: int) -> None:
        if frames > self._max_seconds * self.rate:
            raise ArgumentError(
                f"the sound is longer than {self._max_seconds} s", "Send it in pieces, with the argument stream"
            )
        if frames * self.channels > MAX_DECODED:
            raise ArgumentError(
                f"the sound has more than {MAX_DECODED} samples in its {self.channels} channels",
                "Send fewer channels, or pieces",
            )


def sniffed(data: bytes) -> str | None:
    """Which kind of sound file the bytes begin as; None: no known one."""
    kind = _MAGIC.get(data[:4])
    return None if kind == "WAV" and data[8:12] != b"WAVE" else kind


def _check_bounds(rate: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ArgumentError(f"the sound has {rate} samples a second", f"From {MIN_RATE} to {MAX_RATE} are taken")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ArgumentError(f"the sound has {channels} channels", f"At most {MAX_CHANNELS} are taken")


def _check_raw(data: bytes, raw: RawFormat) -> None:
    size = RAW[raw.coding][2] * raw.channels
    if len(data) % size:
        raise ArgumentError(
            f"{len(data)} bytes are no whole number of samples of {raw.coding} in {raw.channels} channel(s): {size} bytes each",
            "Cut the sound between samples",
        )


def _mono(block: Array) -> Array:
    if not np.isfinite(block).all():
        raise ArgumentError("the sound has samples that are no numbers (NaN or infinite)", "Mend or convert it")
    mono: Array = np.clip(block, -1, 1).mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else np.clip(block[:, 0], -1, 1)
    return mono


def _never() -> bool:
    return False


def _fill(source: BinaryIO, data: bytes) -> None:
    """All of it, to be read from the beginning."""
    view = memoryview(data)
    while view:
        view = view[source.write(view) :]
    source.seek(0)


def _reason(error: Exception) -> str:
    """Without libsndfile's "Error opening 7: " or "Error : "."""
    return re.sub(r"^Error opening \d+: ", "", one_line(error)).removeprefix("Error : ")
