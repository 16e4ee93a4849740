"""`device://load`: what the device measures of itself, what state that makes, and what it allows."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from edge_mcp.context import Context
from edge_mcp.load.device import DeviceLoad
from edge_mcp.load.governor import Load
from edge_mcp.load.signals import Memory, Pressure
from edge_mcp.measurements import Links
from edge_mcp.resources.base import Contents, ResourceDefinition, TemplateDefinition

LOAD = "device://load"
_JSON = "application/json"
_SAYS = (
    "How loaded the device is: NOMINAL, WARM, HOT or CRITICAL, since when and why, what that allows, and every signal behind "
    "it (null: this device does not tell); bytes held for WebSockets, and how much of their size messages had on the wire."
)


class LoadResources:
    """See resources.base.Resources."""

    def __init__(
        self,
        device: DeviceLoad,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], tuple[int, int]] = lambda: (0, 0),
        links: Links | None = None,
    ) -> None:
        """`work` says how many calls wait, and how many batches run; `links` are the network listener's connections."""
        self._links = links or Links()
        self._device = device
        self._work = work
        self._clock = clock

    async def resources(self) -> Sequence[ResourceDefinition]:
        """See Resources."""
        return [ResourceDefinition(LOAD, "device-load", "Load of the device", _SAYS, _JSON)]

    async def templates(self) -> Sequence[TemplateDefinition]:
        """See Resources."""
        return []

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources."""
        if uri != LOAD:
            return None
        return [Contents(uri, _JSON, text=msgspec.json.format(msgspec.json.encode(self.told()), indent=2).decode())]

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Resources."""
        return []

    def told(self) -> dict[str, Any]:
        """The resource as an object."""
        sample = self._device.sample()
        governor = self._device.governor
        queued, running = self._work()
        return {
            "state": governor.state.name,
            "since_s": round(self._clock() - governor.since) if governor.since else None,
            "why": [{"signal": reason.signal, "text": reason.text} for reason in governor.reasons],
            "budget": governor.budget,
            "queued": queued,
            "running": running,
            "network": {
                "connections": self._links.count(),
                "websockets": len(self._links.sockets),
                "held_bytes": self._links.held,
                "sent_percent": round(self._links.ratio * 100),
            },
            "signals": _signals(sample.load),
            "absent": sample.absent,
        }


def _signals(load: Load) -> dict[str, Any]:
    bits = (
        None
        if load.throttling is None
        else {"now": _names(load.throttling.now), "since_boot": _names(load.throttling.since_boot)}
    )
    return {
        "cpu_percent": _percent(load.cpu),
        "frequency_percent": _percent(load.frequency),
        "temperature_c": load.temperature_c,
        "throttling": bits,
        "memory": _memory(load.memory),
        "pressure": {
            "cpu": _pressure(load.cpu_pressure),
            "memory": _pressure(load.memory_pressure),
            "io": _pressure(load.io_pressure),
        },
        "loop_lag_ms": None if load.lag_s is None else round(load.lag_s * 1000, 1),
        "power": load.power,
    }


def _names(bits: frozenset[int]) -> list[str]:
    return [name for bit, name in enumerate(("under_voltage", "frequency_capped", "throttled", "soft_limit")) if bit in bits]


def _percent(share: float | None) -> int | None:
    return None if share is None else round(share * 100)


def _memory(memory: Memory | None) -> dict[str, int] | None:
    return None if memory is None else {"total_mb": round(memory.total_mb), "available_mb": round(memory.available_mb)}


def _pressure(pressure: Pressure | None) -> dict[str, float] | None:
    return (
        None
        if pressure is None
        else {"some_10s": pressure.some_10s, "some_60s": pressure.some_60s, "full_10s": pressure.full_10s}
    )
