"""Samples -> what a model takes in one step."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import soxr

from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.repository.inputs import AudioInput


class Features(Protocol):
    """A front end, which keeps what has not made a whole step yet."""

    size: int
    """How many numbers one step takes."""
    delay: int
    """By how many samples the first step needs more than the others."""

    def __init__(self, config: AudioInput) -> None: ...

    def feed(self, samples: Array) -> Iterator[Array]:
        """The steps that float32 samples complete, each float32 [size]."""
        ...

    def flush(self) -> Iterator[Array]:
        """The last step, if what is left makes one."""
        ...


class Windows:
    """The samples themselves: `window` new ones behind the last `context` of those before. See Features."""

    def __init__(self, config: AudioInput) -> None:
        self.delay = 0
        self._window = config.window
        self.size = config.context + config.window
        self._kept = np.zeros(config.context, np.float32)

    def feed(self, samples: Array) -> Iterator[Array]:
        """See Features."""
        self._kept = np.concatenate([self._kept, samples])
        while len(self._kept) >= self.size:
            step, self._kept = self._kept[: self.size], self._kept[self._window :]
            yield step

    def flush(self) -> Iterator[Array]:
        """See Features: filled up with zeros, as Silero VAD does."""
        missing = self.size - len(self._kept)
        if missing < self._window:
            yield from self.feed(np.zeros(missing, np.float32))


class Resampler:
    """From one rate to another; in pieces of any size the same as in one."""

    def __init__(self, source: int, target: int) -> None:
        self._native = soxr.ResampleStream(source, target, 1) if source != target else None

    def feed(self, samples: Array) -> Array:
        """Float32 to float32, from -1 to 1. It comes a few milliseconds later, in place of silence at the beginning."""
        return samples if self._native is None else np.clip(self._native.resample_chunk(np.ascontiguousarray(samples)), -1, 1)

    def flush(self) -> Array:
        """What is still on its way; nothing may be fed after it."""
        nothing = np.zeros(0, np.float32)
        return nothing if self._native is None else np.clip(self._native.resample_chunk(nothing, last=True), -1, 1)
