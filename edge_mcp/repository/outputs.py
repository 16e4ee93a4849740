"""`[output]` of a `model.toml`: how a model's output tensors become a result."""

from typing import Literal

from edge_mcp.repository.sections import Section


class SsdOutput(Section, frozen=True, tag_field="decoder", tag="ssd"):
    """Box regressions and class scores over SSD anchors (Liu et al. 2016); class 0 is the background.

    `boxes` and `scores` name the output tensors; `strides` are in input pixels; anchors as in the TensorFlow
    Object Detection API's multiple-grid generator with `reduce_lowest` for the first layer.
    """

    boxes: str
    scores: str
    labels: str
    strides: tuple[int, ...]
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)
    reduce_lowest: bool = True
    variances: tuple[float, float] = (10.0, 5.0)
    threshold: float = 0.4
    iou: float = 0.5
    max_results: int = 20


class BlazefaceOutput(Section, frozen=True, tag_field="decoder", tag="blazeface"):
    """MediaPipe's face boxes and six key points over fixed anchors (Bazarevsky et al. 2019)."""

    boxes: str
    scores: str
    strides: tuple[int, ...]
    threshold: float = 0.7
    iou: float = 0.3
    max_results: int = 20


class SoftmaxOutput(Section, frozen=True, tag_field="decoder", tag="softmax"):
    """One score per label. `activation` is what still has to be applied to the output tensor.

    A best label whose score is below its own threshold (`thresholds`, else `threshold`) is not trusted: the answer's
    `label` is then `fallback`. `replace` renames labels in that answer.
    """

    labels: str
    activation: Literal["softmax", "none"] = "softmax"
    threshold: float = 0.0
    max_results: int = 5
    thresholds: dict[str, float] = {}
    fallback: str = "unknown"
    replace: dict[str, str] = {}


class TextBoxesOutput(Section, frozen=True, tag_field="decoder", tag="text_boxes"):
    """Where a map of probabilities, one for each pixel of the input, says that text is (Liao et al. 2020, "DB").

    Pixels above `pixel_threshold` that touch are a line; it scores their mean. The network marks the core of a line only:
    each box grows by its area * `unclip` / its perimeter. Boxes are upright. `min_side` is in pixels of the map.
    """

    activation: Literal["sigmoid", "none"] = "none"
    pixel_threshold: float = 0.3
    threshold: float = 0.5
    unclip: float = 1.6
    min_side: int = 3
    max_results: int = 100


class CtcOutput(Section, frozen=True, tag_field="decoder", tag="ctc"):
    """Characters by connectionist temporal classification (Graves et al. 2006), the best path: `blank` is no character.

    `labels` has one character for each class, the blank's included. The score is the mean of the characters' probabilities.
    """

    labels: str
    blank: int = 0
    activation: Literal["softmax", "none"] = "softmax"
    threshold: float = 0.5


class SpeechOutput(Section, frozen=True, tag_field="decoder", tag="speech"):
    """From when to when there is speech, of one score for each step (as Silero VAD's `get_speech_timestamps`).

    Speech begins with a score of `threshold`, and ends where scores stay below `threshold - hysteresis` for `min_silence_ms`;
    what is not longer than `min_speech_ms` is left out; the rest grows by `padding_ms` at both ends. `scores` names the output
    tensor; it may be empty where there is but one that is no state.
    """

    scores: str = ""
    threshold: float = 0.5
    hysteresis: float = 0.15
    min_speech_ms: int = 250
    min_silence_ms: int = 100
    padding_ms: int = 30


class WakeWordOutput(Section, frozen=True, tag_field="decoder", tag="wake_word"):
    """When a word was said, of one score for each step: the mean of the last `window` scores is at least `threshold`.

    The next one counts when that mean has been below it, and `pause_ms` later at the earliest. `scores` as in `speech`.
    """

    phrase: str
    scores: str = ""
    threshold: float = 0.85
    window: int = 5
    pause_ms: int = 1000


class RawOutput(Section, frozen=True, tag_field="decoder", tag="raw"):
    """The output tensors as they are."""


Output = SsdOutput | BlazefaceOutput | SoftmaxOutput | TextBoxesOutput | CtcOutput | SpeechOutput | WakeWordOutput | RawOutput
