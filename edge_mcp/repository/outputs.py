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


class RawOutput(Section, frozen=True, tag_field="decoder", tag="raw"):
    """The output tensors as they are."""


Output = SsdOutput | BlazefaceOutput | SoftmaxOutput | RawOutput
