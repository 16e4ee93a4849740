"""From when to when there is speech, of a score for each step: the rule of Silero VAD's `get_speech_timestamps`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.decoders.tracking import Heard, Step, answered
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import AudioInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import SpeechOutput

_LEAST_RELEASE = 0.01  # Silero's: with a low threshold speech would never end


class _Mean(NamedTuple):
    """What a mean is made of; somebody may speak for days."""

    total: float = 0.0
    number: int = 0

    def with_one_more(self, value: float) -> "_Mean":
        return _Mean(self.total + value, self.number + 1)


class SpeechDecoder:
    """See tracking.TrackingDecoder."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError."""
        if not isinstance(manifest.output, SpeechOutput) or not isinstance(manifest.input, AudioInput):
            raise ModelError('the decoder "speech" needs input.kind = "audio"')
        self._config = manifest.output
        self._rate = manifest.input.rate
        self.scores = manifest.output.scores

    def tracker(self) -> "SpeechTracker":
        """See TrackingDecoder."""
        return SpeechTracker(self._config, self._rate)

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`segments` that have ended, each told once; whether speech goes on at the end of this sound, and since when."""
        heard: Heard = prepared.source
        return Result(answered(heard, arguments))


class SpeechTracker:
    """See tracking.Tracker. Times within are in samples."""

    def __init__(self, config: SpeechOutput, rate: int) -> None:
        self._rate = rate
        self._hysteresis = config.hysteresis
        self._min_speech, self._min_silence, self._padding = (
            round(rate * one / 1000) for one in (config.min_speech_ms, config.min_silence_ms, config.padding_ms)
        )
        self._began: int | None = None
        self._silent_since: int | None = None
        self._spoken = _Mean()  # of the scores since it began
        self._before_silence = _Mean()
        self._segments: list[dict[str, float]] = []
        self._steps = self._loud = 0
        self._speaking = False

    def follow(self, step: Step, threshold: float) -> None:
        """See Tracker."""
        self._steps += 1
        if step.score >= threshold:
            self._loud += 1
            self._silent_since = None
            if self._began is None:
                self._began = step.start
        if self._began is None:
            return
        before, self._spoken = self._spoken, self._spoken.with_one_more(step.score)
        if step.score >= max(threshold - self._hysteresis, _LEAST_RELEASE):
            return
        if self._silent_since is None:
            self._silent_since = step.start
            self._before_silence = before
        if step.start - self._silent_since >= self._min_silence:
            self._close(self._silent_since, self._silent_since + self._padding, self._before_silence)

    def finish(self, end: int) -> None:
        """See Tracker."""
        self._speaking = self._began is not None
        if self._began is not None:
            self._close(end, end, self._spoken)

    def told(self) -> dict[str, Any]:
        """See Tracker."""
        speaking = self._began is not None or self._speaking
        since = {} if self._began is None else {"since_s": self._seconds(max(0, self._began - self._padding))}
        told = {
            "speaking": speaking,
            **since,
            "segments": self._segments,
            "speech_share": round(self._loud / self._steps, 4) if self._steps else 0.0,
        }
        self._segments, self._steps, self._loud = [], 0, 0
        return told

    def _close(self, end: int, padded: int, scores: "_Mean") -> None:
        began = self._began or 0
        if end - began > self._min_speech:
            score = scores.total / max(scores.number, 1)
            segment = {
                "start_s": self._seconds(max(0, began - self._padding)),
                "end_s": self._seconds(padded),
                "score": round(min(max(score, 0.0), 1.0), 4),
            }
            self._segments.append(segment)
        self._began = self._silent_since = None
        self._spoken = _Mean()

    def _seconds(self, samples: int) -> float:
        return round(samples / self._rate, 4)
