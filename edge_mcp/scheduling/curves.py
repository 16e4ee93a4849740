"""Remembers what batches cost on this device: a model is measured once, and anew when something changed that it hangs on."""

import hashlib
import logging
import os
import sys
from functools import cache
from pathlib import Path

import msgspec

from edge_mcp import private_files
from edge_mcp.engine.messages import ModelSpec
from edge_mcp.errors import ConfigError
from edge_mcp.scheduling.knee import Curve

logger = logging.getLogger(__name__)

_PACKAGES = {".onnx": "onnxruntime", ".tflite": "ai_edge_litert"}


class _Remembered(msgspec.Struct):
    """One file: seconds of a run by batch size, and what they hold for."""

    of: list[str]
    seconds: dict[int, float]


class Curves:
    """A folder of small JSON files, one for each model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_told = False

    def get(self, spec: ModelSpec) -> Curve | None:
        """What was measured of this very model with this runtime on this processor."""
        try:
            remembered = msgspec.json.decode(self._place(spec).read_bytes(), type=_Remembered)
            return Curve(remembered.seconds) if remembered.of == _identity(spec) else None
        except (OSError, ValueError):  # msgspec's and Curve's errors are ValueErrors
            return None

    def put(self, spec: ModelSpec, seconds: dict[int, float]) -> None:
        """Remember; a folder that cannot be written costs only the time to measure again."""
        try:
            private_files.write(self._place(spec), msgspec.json.encode(_Remembered(_identity(spec), seconds)))
            self._is_told = False
        except ConfigError as error:
            if not self._is_told:  # of a full disk once, and not for each model
                logger.warning("what batches cost is measured anew after each start: %s", error)
            self._is_told = True

    def _place(self, spec: ModelSpec) -> Path:
        return self._folder / (hashlib.sha256(spec.manifest.model.name.encode()).hexdigest()[:32] + ".json")


def _identity(spec: ModelSpec) -> list[str]:
    """What a curve hangs on: the model's content, the runtimes, the processor, and the threads of a run."""
    runtimes = [_version(_PACKAGES.get(Path(part.model.file).suffix, "")) for part in spec.manifest.parts]
    return [spec.key, *runtimes, _processor(), str(spec.manifest.resources.threads)]


@cache
def _version(package: str) -> str:
    """The version of an installed package, by its metadata's folder: importing `importlib.metadata` would cost 2 MB."""
    found = (path.name for folder in sys.path if folder for path in Path(folder).glob(f"{package}-*.dist-info"))
    return next(found, package)


@cache
def _processor() -> str:
    """What the kernel calls this device's processor, and how many of them there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    names = [fields[name] for name in ("model name", "Model", "CPU part", "Revision") if name in fields]
    return " ".join([*names, str(os.cpu_count())])
