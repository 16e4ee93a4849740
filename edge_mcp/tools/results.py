"""The JSON Schema (2020-12) of a tool's `structuredContent`, made from its manifest without loading the model."""

from typing import Any

from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import BlazefaceOutput, RawOutput, SoftmaxOutput, SsdOutput

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


def output_schema(manifest: Manifest) -> dict[str, Any]:
    """`outputSchema` of the model's tool."""
    match manifest.output:
        case SsdOutput():
            properties = {"detections": _array({"label": {"type": "string"}, "score": _SCORE, "box": _BOX}), "image": _IMAGE}
        case BlazefaceOutput():
            keypoints = {"type": "object", "additionalProperties": _POINT}
            properties = {"faces": _array({"score": _SCORE, "box": _BOX, "keypoints": keypoints}), "image": _IMAGE}
        case SoftmaxOutput():
            properties = {
                "label": {
                    "type": "string",
                    "description": f"The best label; {manifest.output.fallback} when it is not to be trusted.",
                },
                "labels": _array({"label": {"type": "string"}, "score": _SCORE}),
            }
        case RawOutput():
            tensor = {
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
            properties = {"outputs": {"type": "object", "additionalProperties": tensor}}
    required = list(properties)
    properties["inference_ms"] = {"type": "number", "description": "What the model took for this call, in milliseconds."}
    return {"type": "object", "properties": properties, "required": [*required, "inference_ms"]}


def _array(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object", "properties": properties, "required": list(properties)}}
