"""What can be read of the device: a card for each model, and its status."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

import edge_mcp
from edge_mcp.context import Context
from edge_mcp.engine.status import EngineStatus
from edge_mcp.errors import EdgeError
from edge_mcp.measurements import Counters, Measurements
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import Entry, Store
from edge_mcp.resources import probe
from edge_mcp.resources.base import Contents, ResourceDefinition, TemplateDefinition

STATUS = "device://status"
MODEL = "model://"
TEMPLATE = "model://{name}"
_JSON = "application/json"


class EngineState(Protocol):
    """What is shown of the engine."""

    @property
    def pid(self) -> int | None:
        """Its process id, while there is one."""
        ...

    @property
    def loaded(self) -> frozenset[str]:
        """The names of the models that are loaded."""
        ...

    def status(self) -> Sequence[EngineStatus]:
        """The shared engine, and each isolated one that is running."""
        ...


class DeviceResources:
    """See resources.base.Resources. Reading loads nothing: what is not known yet is null."""

    def __init__(
        self,
        store: Store,
        engine: EngineState,
        signatures: Signatures,
        measured: Measurements,
        clock: Callable[[], float] = time.monotonic,
        temperature_c: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._temperature_c = temperature_c
        self._signatures = signatures
        self._measured = measured
        self._clock = clock
        self._began = clock()
        self._list: list[ResourceDefinition] = []
        self.swap(store)

    def swap(self, store: Store) -> bool:
        """Tell of what is in `store` from now on; whether the list of resources has changed."""
        before = self._list
        self._entries = {entry.manifest.model.name: entry for entry in store.entries}
        self._problems = store.problems
        status = ResourceDefinition(STATUS, "device-status", "Status of the device", _STATUS_SAYS, _JSON)
        self._list = [status, *map(_listed, store.entries)]
        return self._list != before

    async def resources(self) -> Sequence[ResourceDefinition]:
        """See Resources."""
        return self._list

    async def templates(self) -> Sequence[TemplateDefinition]:
        """See Resources."""
        return [TemplateDefinition(TEMPLATE, "model-card", "Model card", _CARD_SAYS, _JSON)]

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources."""
        text = self.text(uri)
        return None if text is None else [Contents(uri, _JSON, text=text)]

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Resources."""
        return [name for name in self._entries if name.startswith(value)] if (template, argument) == (TEMPLATE, "name") else []

    def text(self, uri: str) -> str | None:
        """What `uri` holds, as JSON; None when it is not one of these."""
        if uri == STATUS:
            return _json(self._status())
        entry = self._entries.get(uri.removeprefix(MODEL)) if uri.startswith(MODEL) else None
        return None if entry is None else _json(self._card(entry))

    def _card(self, entry: Entry) -> dict[str, Any]:
        manifest, described = entry.manifest, self._signatures.get(entry.file, entry.manifest.model.signature)
        name, output = manifest.model.name, manifest.output
        limits = {key: getattr(output, key) for key in ("threshold", "max_results") if hasattr(output, key)}
        return {
            "name": name,
            "version": manifest.model.version,
            "versions": _versions(entry),
            "license": manifest.model.license or None,
            "source": manifest.model.source or None,
            "file": manifest.model.file,
            "format": entry.file.suffix.removeprefix("."),
            "size_bytes": _size(entry),
            "sha256": manifest.model.sha256 or (described.sha256 if described else None),
            "tool": manifest.tool.name,
            "description": manifest.tool.description,
            "input": manifest.input,
            "output": {"decoder": output.__struct_config__.tag, **limits},
            **({"steps": manifest.steps} if manifest.steps else {}),
            "signature": described.signature if described else None,
            "inference_ms": _ms(self._measured.run_s(name)),
            "load_ms": _ms(self._measured.load_s(name)),
            "memory_mb": self._measured.memory_mb(name),
        }

    def _status(self) -> dict[str, Any]:
        pid, loaded, average = self._engine.pid, self._engine.loaded, probe.load_average() or (None, None, None)
        return {
            "version": edge_mcp.__version__,
            "uptime_s": round(self._clock() - self._began),
            "models": [
                {
                    "name": name,
                    "version": entry.manifest.model.version,
                    "tool": entry.manifest.tool.name,
                    "loaded": name in loaded,
                    "calls": self._calls(name),
                    "inference_ms": _ms(self._measured.run_s(name)),
                }
                for name, entry in self._entries.items()
            ],
            "problems": list(self._problems),
            "engine": {"running": pid is not None, "pid": pid},
            "engines": [_engine(engine) for engine in self._engine.status() if engine.pid is not None],
            "calls": {"answered": self._measured.answered, "failed": self._measured.failed},
            "memory": {"server_mb": probe.resident_mb(os.getpid()), "engine_mb": probe.resident_mb(pid) if pid else None},
            "load": {"average_1min": average[0], "average_5min": average[1], "average_15min": average[2]},
            "processors": len(os.sched_getaffinity(0)),
            "cpu_temperature_c": self._temperature_c(),
        }

    def _calls(self, name: str) -> dict[str, int]:
        counters = self._measured.models.get(name, Counters())
        return {"answered": counters.success, "failed": counters.failure}


_STATUS_SAYS = (
    "What the device is doing: models, which are loaded, what is wrong with others, calls answered and failed, memory of both "
    "processes, load, processor temperature."
)
_CARD_SAYS = "What a model is: version, licence, source, digest, inputs and outputs, and how fast it has been on this device."


def _listed(entry: Entry) -> ResourceDefinition:
    manifest = entry.manifest
    title = f"Model card of {manifest.tool.title or manifest.tool.name}"
    return ResourceDefinition(MODEL + manifest.model.name, manifest.model.name, title, _CARD_SAYS, _JSON)


def _engine(engine: EngineStatus) -> dict[str, Any]:
    return {**msgspec.to_builtins(engine), "memory_mb": probe.resident_mb(engine.pid) if engine.pid else None}


def _size(entry: Entry) -> int | None:
    try:
        return sum(file.stat().st_size for file in set(entry.files))
    except OSError:
        return None


def _versions(entry: Entry) -> dict[str, Any] | None:
    """What is kept of a model that was taken in, and why the source as it is now was not, if so."""
    if not entry.digest:
        return None
    from edge_mcp.repository.origin import origin

    try:
        about = origin(entry)
    except EdgeError as error:
        return {"active": entry.manifest.model.version, "problem": str(error)}
    return {
        "active": entry.manifest.model.version,
        "kept": about.kept,
        "highest": about.highest,
        "refused": about.refused or None,
        "waiting": about.waiting or None,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
