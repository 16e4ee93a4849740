"""Quantizes a model, and says whether it still answers as its original does."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from edge_mcp.engine.messages import ModelSpec
from edge_mcp.errors import ModelError
from edge_mcp.workshop.gate import Verdict, compare
from edge_mcp.workshop.recorder import Run
from edge_mcp.workshop.samples import Sample, read_samples
from edge_mcp.workshop.subject import Seen, Subject

_MODULES = {".onnx": "onnx_methods", ".tflite": "tflite_methods"}
_MAX_CALIBRATION = 512
_THRESHOLD = 0.5


def quantize(original: Mapping[str, Any], candidate: Mapping[str, Any], method: str, samples: str) -> dict[str, Any]:
    """Write the file of `candidate` from that of `original` (two ModelSpecs), run both on the samples, and compare.

    Raises: ModelError.
    """
    old, new = msgspec.convert(original, ModelSpec), msgspec.convert(candidate, ModelSpec)
    tools = _tools(old.manifest.model.file)
    subject = Subject(old)
    given = read_samples(Path(samples), old.schema["properties"], subject.inputs)
    before, state = _seen(subject, given)
    source, target = (Path(spec.folder) / spec.manifest.model.file for spec in (old, new))
    if method == "static":
        tools.static(source, target, _spread([run for seen in before for run in seen.runs]))
    else:
        getattr(tools, method.replace("-", "_"))(source, target)
    if method != "static" and target.stat().st_size >= source.stat().st_size:
        raise ModelError(f"{method} makes {old.manifest.model.file} no smaller", "Keep it, or try another --method")
    after, _ = _seen(Subject(new), given)
    threshold = getattr(old.manifest.output, "threshold", _THRESHOLD) or _THRESHOLD
    verdict: Verdict = compare(before, after, threshold, state, old.manifest.has_boxes)
    sizes = {"bytes_before": source.stat().st_size, "bytes_after": target.stat().st_size}
    return {**msgspec.structs.asdict(verdict), **sizes, "samples": len(given)}


def _tools(file: str) -> Any:
    """The format's methods. Raises: ModelError where their package is not installed."""
    try:
        return import_module(f"edge_mcp.workshop.{_MODULES[Path(file).suffix]}")
    except ModuleNotFoundError as error:
        hint = "Install what quantization needs: pip install 'edge-mcp[quantize]'"
        raise ModelError(f"the package {error.name} is not installed", hint) from error


def _seen(subject: Subject, samples: Sequence[Sample]) -> tuple[list[Seen], list[str]]:
    """What the model makes of each sample, and the names of its outputs that are state."""
    try:
        steps = next((sample.steps[0] for sample in samples if sample.steps), None)
        state = subject.state(set(steps)) if steps is not None else {}
        return subject.see(samples), [*state.values(), *subject.wired]
    finally:
        subject.close()


def _spread(runs: Sequence[Run]) -> list[Run]:
    """So many of them as a calibration can use, from the first to the last."""
    step = max(1, -(-len(runs) // _MAX_CALIBRATION))
    return list(runs[::step])
