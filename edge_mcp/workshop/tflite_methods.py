"""Makes a TFLite file smaller; the only module that imports `ai_edge_quantizer`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import calibrator, quantizer, recipe
from ai_edge_quantizer.utils import qsv_utils

from edge_mcp.errors import ModelError
from edge_mcp.workshop.recorder import Run


def weight_only(source: Path, target: Path) -> None:
    """Weights as int8, computed in float32. Raises: ModelError."""
    _quantize(source, target, recipe.weight_only_wi8_afp32(), [])


def dynamic(source: Path, target: Path) -> None:
    """Weights as int8, and activations at run time. Raises: ModelError."""
    _quantize(source, target, recipe.dynamic_wi8_afp32(), [])


def static(source: Path, target: Path, runs: Sequence[Run]) -> None:
    """Weights and activations as int8, the activations' ranges as in `runs`. Raises: ModelError."""
    _quantize(source, target, recipe.static_wi8_ai8(), runs)


def _quantize(source: Path, target: Path, how: Any, runs: Sequence[Run]) -> None:
    names = list(Interpreter(str(source)).get_signature_list())
    if runs and not names:
        raise ModelError(
            f"{source.name} has no signature, and ai-edge-quantizer measures ranges by one", "Try another --method"
        )
    try:
        tool = quantizer.Quantizer(str(source), how)
        tool.quantize(_ranges(source, names[0], runs) if runs else None).export_model(str(target), overwrite=True)
    except MemoryError:
        raise
    except Exception as error:  # the tool raises whatever it likes
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"ai-edge-quantizer cannot do that to {source.name}: {reason}", "Try another --method") from error


def _ranges(source: Path, signature: str, runs: Sequence[Run]) -> Any:
    """Least and greatest of every tensor. By default the tool takes a moving mean of them, which cuts off what is rare."""
    model = calibrator.CalibrationInterpreter(
        str(source), calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS, qsv_utils.min_max_update
    )
    runner = model.get_signature_runner(signature)
    for inputs, _ in runs:
        runner(**dict(inputs))
    return model.get_calibration_results()
