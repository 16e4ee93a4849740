"""Which models stay in memory: when one has been idle for long enough, and which has to go when memory is short. Pure.

Times are seconds of any steady clock, memory is in units of 2^20 bytes.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from edge_mcp.engine.messages import ModelSpec

REMEMBERED = 256
_FILE_FACTOR = 2.0
_FILE_MB = 4.0
"""Before a model has been measured it is expected to need its file's size times the factor, and this much more. Measured of the
shipped models: 4 to 15 for files of 0.2 to 5."""


class Holder(Hashable, Protocol):
    """An engine, as who counts memory sees it."""

    @property
    def pid(self) -> int | None:
        """Its process id, while there is one."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing is on a lane, nor waits for one."""
        ...

    async def drop(self, key: str) -> None:
        """Unload a model at once. Raises: EngineError."""
        ...

    async def end(self, why: str) -> None:
        """End the process, if there is one; the next request starts another."""
        ...


@dataclass(slots=True)
class Resident:
    """A loaded model: whose engine has it, what it was measured to need, and when it was last used."""

    key: str
    name: str
    version: str
    holder: Holder
    memory_mb: float
    keep_s: float
    preload: bool
    last_used: float
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What a load is expected to add: for the model, and for the engine and the packages that are not there yet."""

    model_mb: float
    engine_mb: float
    measured: bool

    @property
    def total_mb(self) -> float:
        """Both."""
        return self.model_mb + self.engine_mb


class Residency:
    """The loaded models of all engines, and their uses.

    A model in use is never named as idle. Preloaded ones do not grow old, and go last when memory is short.
    """

    def __init__(self, keep_s: float = float("inf"), preload: frozenset[str] = frozenset()) -> None:
        self.scale = 1.0
        """By what the times that models are kept are multiplied: less than 1 when the device is in need."""
        self._keep_s = keep_s
        self._preload = preload
        self._residents: dict[str, Resident] = {}
        self._uses: dict[str, int] = {}
        self._measured: OrderedDict[str, float] = OrderedDict()
        self._expected: dict[str, float] = {}
        self._sequence = 0

    # ---- uses

    def begin(self, key: str, now: float) -> None:
        """A call wants this model, whether it is loaded or not."""
        self._uses[key] = self._uses.get(key, 0) + 1
        self._touch(key, now)

    def end(self, key: str, now: float) -> float | None:
        """That call is done. When this was the last use of a loaded model: when it will have been idle for long enough."""
        left = self._uses[key] - 1
        if left:
            self._uses[key] = left
            return None
        del self._uses[key]
        self._touch(key, now)
        resident = self._residents.get(key)
        return None if resident is None else self._until(resident)

    def uses(self, key: str) -> int:
        """How many calls want it."""
        return self._uses.get(key, 0)

    # ---- loads

    def need(self, model: ModelSpec, file_mb: float, engine_mb: float) -> Need:
        """What loading it will take; `engine_mb` is what comes besides the model."""
        measured = self._measured.get(model.key)
        return Need(file_mb * _FILE_FACTOR + _FILE_MB if measured is None else measured, engine_mb, measured is not None)

    def expect(self, key: str, mb: float) -> None:
        """A load is under way that will need this much."""
        self._expected[key] = mb

    def settle(self, key: str) -> None:
        """That load has ended, one way or the other."""
        self._expected.pop(key, None)

    @property
    def expected_mb(self) -> float:
        """What the loads under way will need."""
        return sum(self._expected.values())

    def loaded(self, model: ModelSpec, holder: Holder, memory_mb: float, now: float) -> Resident:
        """A model was loaded, and measured."""
        manifest = model.manifest
        name, resources = manifest.model.name, manifest.resources
        self._measured[model.key] = memory_mb
        self._measured.move_to_end(model.key)
        while len(self._measured) > REMEMBERED:
            self._measured.popitem(last=False)
        resident = self._residents[model.key] = Resident(
            model.key,
            name,
            manifest.model.version,
            holder,
            memory_mb,
            resources.keep_loaded_s or self._keep_s,
            resources.preload or name in self._preload,
            now,
        )
        self._touch(model.key, now)
        return resident

    def unloaded(self, key: str) -> None:
        """It is not in memory any more."""
        self._residents.pop(key, None)

    def forget(self, key: str) -> None:
        """It has to be measured anew."""
        self._measured.pop(key, None)

    def ended(self, holder: Holder) -> None:
        """An engine is gone with all its models."""
        for resident in self.of(holder):
            del self._residents[resident.key]

    # ---- who is there, and who has to go

    def get(self, key: str) -> Resident | None:
        """A loaded model."""
        return self._residents.get(key)

    def of(self, holder: Holder) -> list[Resident]:
        """The loaded models of an engine."""
        return [resident for resident in self._residents.values() if resident.holder is holder]

    def all(self) -> list[Resident]:
        """The loaded models, the least recently used first."""
        return sorted(self._residents.values(), key=lambda one: one.sequence)

    def due(self, now: float) -> list[Resident]:
        """What has been idle for long enough."""
        return [one for one in self.all() if self.is_idle(one) and not one.preload and self._until(one) <= now]

    def next_due(self) -> float:
        """When the next of the idle ones will have been idle for long enough; infinite when none will."""
        return min((self._until(one) for one in self._residents.values() if self.is_idle(one)), default=float("inf"))

    def scaled(self, keep_s: float) -> float:
        """How long something is kept now that would be kept for `keep_s`."""
        return keep_s * self.scale if self.scale else 0.0

    def is_idle(self, resident: Resident) -> bool:
        """Whether no call wants it."""
        return resident.key not in self._uses

    def victim(self, busy: bool, but: str) -> Resident | None:
        """What goes next when memory is short: the least recently used, a preloaded one last; `busy`: of those in use.
        Never the model `but`, for which room is made."""
        candidates = [one for one in self.all() if self.is_idle(one) is not busy and one.key != but]
        return next((one for one in candidates if not one.preload), next(iter(candidates), None))

    def _until(self, resident: Resident) -> float:
        return float("inf") if resident.preload else resident.last_used + self.scaled(resident.keep_s)

    def _touch(self, key: str, now: float) -> None:
        if resident := self._residents.get(key):
            self._sequence += 1
            resident.last_used, resident.sequence = now, self._sequence
