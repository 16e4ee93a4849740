"""The JSON Schema (2020-12) of a tool's arguments, made from its manifest without loading the model."""

from typing import Any

from edge_mcp.engine.messages import Quantization, Signature, TensorSpec
from edge_mcp.engine.naming import argument_names
from edge_mcp.repository.inputs import AudioInput, BytesInput, ImageInput, TensorInput, TextInput
from edge_mcp.repository.manifest import Manifest
from edge_mcp.repository.outputs import CtcOutput, RawOutput, SpeechOutput, WakeWordOutput
from edge_mcp.tools.sound import AUDIO, sound_arguments

_ENCODING = {
    "enum": ["base64", "list"],
    "description": "How to answer tensor data: base64 of little-endian bytes, or nested lists. By default as the inputs came.",
}
_DEQUANTIZE = {
    "type": "boolean",
    "default": False,
    "description": "Answer reals (FP32) for outputs whose integers stand for reals.",
}
_MAX_NAME = 200
_MAX_SHAPE = 32


def input_schema(manifest: Manifest, signature: Signature | None) -> dict[str, Any]:
    """`inputSchema` of the model's tool; `signature` is needed for a tensor input only."""
    properties: dict[str, Any] = {}
    match manifest.input:
        case ImageInput():
            properties["image"] = {
                "type": "string",
                "contentEncoding": "base64",
                "description": "The picture (JPEG, PNG, WebP, BMP or GIF): base64, a data: URI, "
                "or a file: URI or path that the server may read.",
            }
        case TextInput():
            properties["text"] = {"type": "string", "description": "The text."}
        case BytesInput():
            properties["data"] = {
                "type": "string",
                "contentEncoding": "base64",
                "description": "The bytes: base64, a data: URI, or a file: URI or path that the server may read.",
            }
        case AudioInput():
            properties["audio"] = AUDIO
        case TensorInput():
            inputs = signature.inputs if signature else ()
            for name, spec in zip(argument_names(inputs), inputs, strict=True):
                properties[name] = _tensor_argument(name, spec)
    required = list(properties)
    properties.update(_limits(manifest))
    if manifest.has_boxes:
        properties["annotate"] = {
            "type": "boolean",
            "default": False,
            "description": "Also answer the picture with its boxes drawn in.",
        }
    if isinstance(manifest.input, TensorInput):
        properties["encoding"] = _ENCODING
        if signature and any(spec.quantization for spec in signature.outputs):
            properties["dequantize"] = _DEQUANTIZE
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _limits(manifest: Manifest) -> dict[str, Any]:
    """What results are wanted. In a pipeline that is for the first step to know, but for text: whoever reads it scores it."""
    last = manifest.parts[-1].output
    scoring = last if isinstance(last, CtcOutput) else manifest.output
    if isinstance(scoring, SpeechOutput | WakeWordOutput):
        return sound_arguments(scoring)
    limits: dict[str, Any] = {}
    if not isinstance(scoring, RawOutput):
        limits["threshold"] = {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": scoring.threshold,
            "description": "Leave out what scores below this.",
        }
    if not isinstance(manifest.output, RawOutput | CtcOutput | SpeechOutput | WakeWordOutput):
        limits["max_results"] = {
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "default": manifest.output.max_results,
            "description": "At most this many results, best first.",
        }
    return limits


def _meaning(quantization: Quantization) -> str:
    if len(quantization.scale) > 1:
        return f"by a scale for each index of dimension {quantization.axis}"
    return f"{quantization.scale[0]:.6g} * (integer - {quantization.zero_point[0]})"


def _tensor_argument(name: str, spec: TensorSpec) -> dict[str, Any]:
    shape = "any shape" if spec.any_rank else f"shape {list(spec.shape[:_MAX_SHAPE])} (-1: any)"
    words = f"{spec.datatype} tensor of {shape}: a nested list, or {{dtype, shape, data}}."
    if name != spec.name:
        words = f"The model's input {spec.name[:_MAX_NAME]!r}. {words}"
    if spec.quantization:
        words += f" Its integers stand for reals, {_meaning(spec.quantization)}; FP32, or a list with fractions, is quantized."
    return {
        "description": words,
        "anyOf": [
            {"type": ["array", "number", "boolean", "string"]},
            {
                "type": "object",
                "properties": {
                    "dtype": {"type": "string", "description": "Open Inference Protocol datatype, such as FP32 or INT8."},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    "data": {
                        "type": ["string", "array", "number", "boolean"],
                        "contentEncoding": "base64",
                        "description": "Base64 of the little-endian bytes in row-major order, or a list.",
                    },
                },
                "required": ["dtype", "shape", "data"],
                "additionalProperties": False,
            },
        ],
    }
