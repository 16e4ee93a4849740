"""Makes room in memory for a model that is about to be loaded, and judges it by what it was measured to need."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_mcp.engine.attempts import NotStarted
from edge_mcp.engine.memory import DeviceMemory
from edge_mcp.engine.messages import Loaded, ModelSpec
from edge_mcp.engine.residency import Holder, Need, Residency, Resident
from edge_mcp.errors import EdgeError, EngineError, ModelError

logger = logging.getLogger(__name__)

ROOM_S = 10.0
"""How long a load waits until runs of other models have ended and left it their memory."""
RUNS_MB = 12.0
"""What runs take besides what was measured in loads, such as decoded pictures: kept free where it can be, and what the budget
may be exceeded by while they run where it cannot."""
_START_MB = 25.0
_PACKAGES_MB = 20.0
"""What an engine, and the packages of a runtime, are expected to need before they were measured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`budget_mb` is what all engines together may take, `reserve_mb` what the device has to keep free besides."""

    memory: DeviceMemory
    budget_mb: float
    reserve_mb: float

    @classmethod
    def of(cls, memory: DeviceMemory, budget_mb: int) -> "Limits":
        """Of a device: the budget is half of its memory where it is 0, and a twentieth is kept free (24 to 256 MB)."""
        total_mb = memory.total_mb()
        return cls(memory, budget_mb or total_mb / 2, min(256.0, max(24.0, total_mb / 20)))


class Room:
    """The memory of all engines, within `limits`; without any there is always room."""

    def __init__(self, residency: Residency, limits: Limits | None) -> None:
        self._residency = residency
        self._limits = limits
        self._turn = asyncio.Lock()
        self._settled = asyncio.Event()
        self._leaving: dict[str, asyncio.Event] = {}
        self._rested: dict[str, asyncio.Event] = {}
        self._holders: dict[Holder, set[str]] = {}  # and the suffixes whose runtimes they have imported
        self._start_mb = _START_MB
        self._packages_mb: dict[str, float] = {}
        self._too_large: set[str] = set()  # keys that were last measured to need more than their manifest allows

    # ---- what happens meanwhile

    async def entry(self, key: str) -> None:
        """Wait while this model is about to leave: its next call comes after the load that needs its memory."""
        while event := self._leaving.get(key):
            await event.wait()

    async def unused(self, key: str) -> None:
        """Wait until a model is idle, or gone."""
        while (resident := self._residency.get(key)) and not self._residency.is_idle(resident):
            await self._rested.setdefault(key, asyncio.Event()).wait()

    def rested(self, key: str) -> None:
        """A model's last use has ended, or the model is gone."""
        if event := self._rested.pop(key, None):
            event.set()

    def started(self, holder: Holder) -> None:
        """An engine process is there."""
        self._holders[holder] = set()

    def ended(self, holder: Holder) -> None:
        """It is gone, with all that it had loaded."""
        self._holders.pop(holder, None)

    def holders(self) -> list[Holder]:
        """The engines that are there."""
        return list(self._holders)

    # ---- before a load

    @asynccontextmanager
    async def reserved(self, model: ModelSpec, holder: Holder) -> AsyncIterator[None]:
        """Room for a model while it is loaded. Raises: ModelError (never), EngineError (not now)."""
        if self._limits is None:
            yield
            return
        name = model.manifest.model.name
        try:
            async with asyncio.timeout(ROOM_S), self._turn:
                need = await self._made(model, holder, self._limits)
                self._residency.expect(model.key, need.total_mb)
        except TimeoutError:
            needed = f"{name} needs {self._need(model, holder).total_mb:.0f} MB"
            raise EngineError(
                f"memory is short: {needed}, and models with runs in progress hold it", "Call again later", 1000
            ) from None
        try:
            yield
        finally:
            self._residency.settle(model.key)
            self._settled.set()

    async def _made(self, model: ModelSpec, holder: Holder, limits: Limits) -> Need:
        self._check_possible(model, limits)
        while True:
            need = self._need(model, holder)
            over, lacking = self._shortage(need.total_mb, limits)
            if max(over, lacking) <= 0:
                return need
            if await self._one_less(model.key):
                continue
            if lacking <= 0 and (not need.measured or over <= RUNS_MB):
                return need  # there is as much room as there can be; if it was a guess, the load will tell
            raise EngineError(
                f"memory is short: {model.manifest.model.name} needs {need.total_mb:.0f} MB, and "
                f"{max(0.0, need.total_mb - max(over, lacking)):.0f} MB are left",
                "Call again later",
                5000,
            )

    async def _one_less(self, key: str) -> bool:
        """Free some memory for `key`, the cheapest first; False when there is nothing left to free."""
        if idle := self._residency.victim(busy=False, but=key):
            logger.info("%s leaves: memory is needed for %s", idle.key, key)
            await self.drop(idle)
            return True
        if empty := self._empty():
            await empty.end(f"memory is needed for {key}")
            return True
        if busy := self._residency.victim(busy=True, but=key):
            await self._drained(busy.key)
            return True
        if self._residency.expected_mb:
            self._settled.clear()
            await self._settled.wait()
            return True
        return False

    async def _drained(self, key: str) -> None:
        """Let the uses of a model end that have begun; later ones wait until it was unloaded, and load it again."""
        self._leaving[key] = leaving = asyncio.Event()
        try:
            await self.unused(key)
            if resident := self._residency.get(key):
                await self.drop(resident)
        finally:
            del self._leaving[key]
            leaving.set()

    def _check_possible(self, model: ModelSpec, limits: Limits) -> None:
        """Raises: ModelError for what can never have room, EngineError when even ending all engines would not do."""
        need = self._need(model, None)
        name, total_mb = model.manifest.model.name, need.total_mb
        if need.measured:
            self._check_limit(model, need.model_mb)
            if total_mb > limits.budget_mb:
                raise _too_large(name, need.model_mb, total_mb, limits.budget_mb)
        free_mb = limits.memory.available_mb() + self._used_mb(limits)
        if total_mb + limits.reserve_mb > free_mb:
            raise EngineError(
                f"memory is short: {name} needs {total_mb:.0f} MB, and the device has {free_mb:.0f} MB, of which it keeps "
                f"{limits.reserve_mb:.0f} MB free",
                "Call again when other programs have ended",
                5000,
            )

    def _need(self, model: ModelSpec, holder: Holder | None) -> Need:
        """What loading takes; without a holder: in an engine that is yet to start."""
        there = self._holders.get(holder) if holder is not None and holder.pid is not None else None
        engine_mb = self._start_mb if there is None else 0.0
        engine_mb += sum(self._packages_mb.get(suffix, _PACKAGES_MB) for suffix in _suffixes(model) - (there or set()))
        return self._residency.need(model, _file_mb(model), engine_mb)

    def _shortage(self, need_mb: float, limits: Limits) -> tuple[float, float]:
        """How much would be over the budget, and how much the device would lack."""
        coming_mb = need_mb + self._residency.expected_mb + RUNS_MB
        over = self._used_mb(limits) + coming_mb - limits.budget_mb
        return over, coming_mb + limits.reserve_mb - limits.memory.available_mb()

    def _used_mb(self, limits: Limits) -> float:
        return sum(limits.memory.process_mb(holder.pid) for holder in self._holders if holder.pid is not None)

    # ---- after a load

    async def judge(self, model: ModelSpec, holder: Holder, loaded: Loaded) -> None:
        """Whether a model that was loaded may stay. Raises: ModelError (too large), NotStarted (once more, with what is known
        now); then it was unloaded."""
        there = self._holders.setdefault(holder, set())
        first, fresh = _suffixes(model) - there, not there
        if len(first) == 1:
            self._packages_mb[next(iter(first))] = loaded.imported_mb
        if fresh:
            self._start_mb = loaded.start_mb or self._start_mb
        there |= first
        await self._judge_alone(model, holder, loaded.memory_mb)
        if self._limits is not None:
            await self._judge_all(model, holder, loaded, self._limits, fresh)

    async def _judge_alone(self, model: ModelSpec, holder: Holder, memory_mb: float) -> None:
        """A model is refused when it was measured to need too much twice: what the runtime allocates at its first use, or what
        runs on another lane meanwhile, may have been measured too."""
        if not 0 < model.manifest.resources.memory_mb < memory_mb:
            self._too_large.discard(model.key)
            return
        await holder.drop(model.key)
        if model.key not in self._too_large:
            self._too_large.add(model.key)
            self._residency.forget(model.key)
            raise NotStarted(f"{model.key} is measured once more")
        self._check_limit(model, memory_mb)

    async def _judge_all(self, model: ModelSpec, holder: Holder, loaded: Loaded, limits: Limits, fresh: bool) -> None:
        """More was needed than expected: idle models go, or else the new one. It is too large if it does not even fit a `fresh`
        engine that nothing else was ever loaded into."""
        while max(self._shortage(0, limits)) > 0 and (idle := self._residency.victim(busy=False, but=model.key)):
            await self.drop(idle)
        total_mb = self._used_mb(limits)
        if total_mb <= limits.budget_mb:
            return
        await holder.drop(model.key)
        if self._residency.all() or not fresh:
            raise NotStarted(f"{model.key} needs {loaded.memory_mb:.0f} MB, more than was expected")
        raise _too_large(model.manifest.model.name, loaded.memory_mb, total_mb, limits.budget_mb)

    # ---- at any time

    def is_short(self) -> bool:
        """Whether the device has less left than it has to keep free."""
        return self._limits is not None and self._limits.memory.available_mb() < self._limits.reserve_mb

    async def relieve(self) -> None:
        """Unload idle models, and end engines that have none, as long as the device is short of memory."""
        while self.is_short():
            if idle := self._residency.victim(busy=False, but=""):
                logger.info("%s leaves: the device is short of memory", idle.key)
                await self.drop(idle)
            elif empty := self._empty():
                await empty.end("the device is short of memory")
            else:
                break

    def _empty(self) -> Holder | None:
        """An engine that has something of its own, and neither a model nor anything to do."""
        candidates = (holder for holder in self.holders() if holder.pid is not None and holder.idle)
        return next((one for one in candidates if not self._residency.of(one) and self._holders[one]), None)

    async def drop(self, resident: Resident) -> None:
        """Unload a model now."""
        try:
            await resident.holder.drop(resident.key)
        except EdgeError as error:
            logger.debug("%s: %s", resident.key, error)  # an engine that ends meanwhile has freed the memory too

    def _check_limit(self, model: ModelSpec, memory_mb: float) -> None:
        limit_mb = model.manifest.resources.memory_mb
        if 0 < limit_mb < memory_mb:
            raise ModelError(
                f"{model.manifest.model.name} needs {memory_mb:.1f} MB, but its resources.memory_mb allows {limit_mb} MB",
                "Raise memory_mb in its model.toml, or use a smaller model",
            )


def _too_large(name: str, model_mb: float, total_mb: float, budget_mb: float) -> ModelError:
    return ModelError(
        f"{name} needs {total_mb:.0f} MB with its engine ({model_mb:.0f} MB of it the model's own), but memory_mb "
        f"allows {budget_mb:.0f} MB",
        "Raise memory_mb, or use a smaller model",
    )


def _suffixes(model: ModelSpec) -> set[str]:
    """Those of its files: each has a runtime of its own."""
    return {Path(part.model.file).suffix for part in model.manifest.parts}


def _file_mb(model: ModelSpec) -> float:
    try:
        return sum((Path(model.folder) / part.model.file).stat().st_size for part in model.manifest.parts) / (1024 * 1024)
    except OSError:
        return 0.0
