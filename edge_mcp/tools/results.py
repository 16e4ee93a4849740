"""The JSON Schema (2020-12) of a tool's `structuredContent`, made from its manifest without loading the model."""

from typing import Any

from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import (
    BlazefaceOutput,
    CtcOutput,
    Output,
    RawOutput,
    SoftmaxOutput,
    SpeechOutput,
    SsdOutput,
    TextBoxesOutput,
    WakeWordOutput,
)
from edge_mcp.tools.sound import sound_extras, sound_result

_SCORE = {"type": "number", "minimum": 0, "maximum": 1}
_BOX = {
    "type": "object",
    "description": "Pixels of the original picture, origin at the top left.",
    "properties": {name: {"type": "number"} for name in ("x_min", "y_min", "x_max", "y_max")},
    "required": ["x_min", "y_min", "x_max", "y_max"],
}
_IMAGE = {
    "type": "object",
    "description": "Size of the original picture in pixels, after its EXIF orientation.",
    "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
    "required": ["width", "height"],
}
_POINT = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
    "required": ["x", "y"],
}
_TENSOR = {
    "type": "object",
    "properties": {
        "dtype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": ["string", "array", "object", "number", "boolean", "null"]},
        "scale": {
            "type": ["number", "array"],
            "description": "Where integers stand for reals: real = scale * (integer - zero_point).",
        },
        "zero_point": {"type": ["integer", "array"]},
        "axis": {"type": "integer", "description": "The dimension along which scale and zero_point are lists."},
    },
    "required": ["dtype", "shape", "data"],
}
_TENSORS = {"type": "object", "additionalProperties": _TENSOR}


def output_schema(manifest: Manifest) -> dict[str, Any]:
    """`outputSchema` of the model's tool."""
    properties = _of_pipeline(manifest) if manifest.steps else _of_model(manifest.output)
    required = list(properties)
    properties["inference_ms"] = {"type": "number", "description": "What the model took for this call, in milliseconds."}
    if isinstance(manifest.output, SpeechOutput | WakeWordOutput):
        properties |= sound_extras(manifest.output)
    return {"type": "object", "properties": properties, "required": [*required, "inference_ms"]}


def _of_model(output: Output) -> dict[str, Any]:
    match output:
        case SsdOutput():
            return {"detections": _array(_region(output)), "image": _IMAGE}
        case BlazefaceOutput():
            return {"faces": _array(_region(output)), "image": _IMAGE}
        case TextBoxesOutput():
            return {"regions": _array(_region(output)), "image": _IMAGE}
        case SoftmaxOutput():
            return {
                "label": {
                    "type": "string",
                    "description": f"The best label; {output.fallback} when it is not to be trusted.",
                },
                "labels": _array({"label": {"type": "string"}, "score": _SCORE}),
            }
        case CtcOutput():
            return {"text": {"type": "string"}, "score": _SCORE}
        case SpeechOutput() | WakeWordOutput():
            return sound_result(output)
        case RawOutput():
            return {"outputs": _TENSORS}


def _of_pipeline(manifest: Manifest) -> dict[str, Any]:
    """What the first step finds, each with what the second says of it."""
    region = _region(manifest.output)
    last = manifest.parts[-1].output
    match last:
        case CtcOutput():
            text = {
                "type": "string",
                "description": "All lines from top to bottom; what stands beside each other is one line here.",
            }
            line = {"text": {"type": "string"}, **region, "score": _SCORE}
            return {"text": text, "lines": _array(line), "image": _IMAGE}
        case SoftmaxOutput():
            kinds = _of_model(last)
            return {"regions": _array({**region, "class": kinds["label"], "classes": kinds["labels"]}), "image": _IMAGE}
        case _:
            return {"regions": _array({**region, "outputs": _TENSORS}), "image": _IMAGE}


def _region(output: Output) -> dict[str, Any]:
    """One thing that was found in a picture."""
    match output:
        case SsdOutput():
            return {"label": {"type": "string"}, "score": _SCORE, "box": _BOX}
        case BlazefaceOutput():
            keypoints = {"type": "object", "additionalProperties": _POINT}
            return {"score": _SCORE, "box": _BOX, "keypoints": keypoints}
        case _:
            return {"score": _SCORE, "box": _BOX}


def _array(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object", "properties": properties, "required": list(properties)}}
