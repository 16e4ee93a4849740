"""When a word was said, of a score for each step: a sliding mean, as ESPHome's `micro_wake_word` takes it."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_mcp.engine.host.decoders.base import Result
from edge_mcp.engine.host.decoders.tracking import Heard, Step, answered
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.runtimes.base import Array
from edge_mcp.engine.messages import TensorSpec
from edge_mcp.errors import ModelError
from edge_mcp.repository.inputs import AudioInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import WakeWordOutput


class WakeWordDecoder:
    """See tracking.TrackingDecoder."""

    def __init__(self, manifest: Manifest, outputs: Sequence[TensorSpec], folder: Path) -> None:
        """Raises: ModelError."""
        if not isinstance(manifest.output, WakeWordOutput) or not isinstance(manifest.input, AudioInput):
            raise ModelError('the decoder "wake_word" needs input.kind = "audio"')
        self._config = manifest.output
        self._rate = manifest.input.rate
        self.scores = manifest.output.scores

    def tracker(self) -> "WakeWordTracker":
        """See TrackingDecoder."""
        return WakeWordTracker(self._config, self._rate)

    def decode(self, outputs: Mapping[str, Array], prepared: Prepared, arguments: Mapping[str, Any]) -> Result:
        """`detections`, each told once and at once; `score` is the highest mean of this sound, detected or not."""
        heard: Heard = prepared.source
        return Result(answered(heard, arguments))


class WakeWordTracker:
    """See tracking.Tracker."""

    def __init__(self, config: WakeWordOutput, rate: int) -> None:
        self._phrase = config.phrase
        self._rate = rate
        self._pause = round(rate * config.pause_ms / 1000)
        self._window: deque[float] = deque(maxlen=config.window)
        self._armed = True
        self._not_before = 0
        self._best = 0.0
        self._detections: list[dict[str, Any]] = []

    def follow(self, step: Step, threshold: float) -> None:
        """See Tracker. The mean counts once there are as many scores as it is of."""
        self._window.append(step.score)
        if len(self._window) < (self._window.maxlen or 0):
            return
        mean = sum(self._window) / len(self._window)
        self._best = max(self._best, mean)
        if mean < threshold:
            self._armed = True
        elif self._armed and step.end >= self._not_before:
            self._armed = False
            self._not_before = step.end + self._pause
            score = round(min(max(self._window), 1.0), 4)
            self._detections.append({"phrase": self._phrase, "time_s": round(step.end / self._rate, 4), "score": score})

    def finish(self, end: int) -> None:
        """See Tracker: nothing is open."""

    def told(self) -> dict[str, Any]:
        """See Tracker."""
        told = {
            "detected": bool(self._detections),
            "detections": self._detections,
            "score": round(min(max(self._best, 0.0), 1.0), 4),
        }
        self._detections, self._best = [], 0.0
        return told
