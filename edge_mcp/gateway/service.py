"""The gateway as a server: the devices, what they are together, and the listeners."""

import asyncio
import importlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import edge_mcp
from edge_mcp.changes import PROMPTS, RESOURCES, TOOLS, Change, updated
from edge_mcp.config import Config
from edge_mcp.errors import ConfigError
from edge_mcp.gateway.confirmed import Confirmed
from edge_mcp.gateway.fleet import Fleet, Found
from edge_mcp.gateway.names import Memory, Names, Offer, named
from edge_mcp.gateway.prompts import GatewayPrompts
from edge_mcp.gateway.resources import DEVICES, Followed, GatewayResources
from edge_mcp.gateway.routing import Router
from edge_mcp.gateway.tools import GatewayTool, GatewayTools, Tools
from edge_mcp.gateway.upstream import Upstream
from edge_mcp.listeners import listeners
from edge_mcp.measurements import Measurements
from edge_mcp.protocol.messages import Implementation
from edge_mcp.server import Server
from edge_mcp.systemd import Manager, watchdog

logger = logging.getLogger(__name__)

KEEP_S = 60.0
"""How long the lists keep what a device has that is away."""
DAMP_S = 0.2
"""Changes within this time are told as one."""
LOOK_S = 2.0
"""How often the file of what is confirmed is looked at, and who has been away for too long."""
DRAIN_S = 4.0
INFO = Implementation("edge-mcp-gateway", edge_mcp.__version__, "edge-mcp gateway")
INSTRUCTIONS = (
    "Small machine-learning models on several devices. A tool without a dot in its name is the same wherever it runs; "
    f"DEVICE.TOOL is that of one device. Devices may come later: the lists change then. {DEVICES} tells which there are."
)
_STATES = ("NOMINAL", "WARM", "HOT", "CRITICAL")


class Lookout:
    """Who looks for devices, loaded and started by `run`; until then nothing is found. See fleet.Browser."""

    def __init__(self, prefer: Callable[[str], bool]) -> None:
        self.found: Mapping[tuple[str, str], Found] = {}
        self.changed: list[Callable[[], None]] = []
        self._prefer = prefer

    async def run(self) -> None:
        """Look until cancelled."""
        module = await asyncio.to_thread(importlib.import_module, "edge_mcp.discovery.browse")  # which takes a while
        async with module.Browser(self._prefer) as browser:
            self.found = browser.found
            browser.changed.append(self._tell)
            self._tell()
            await asyncio.get_running_loop().create_future()

    def _tell(self) -> None:
        for tell in list(self.changed):
            tell()


class Gateway:
    """One server out of a fleet, which is entered by `serve`. `by_hand` are the ids of devices that the user gave a name."""

    def __init__(
        self,
        fleet: Fleet,
        confirmed: Confirmed,
        by_hand: frozenset[str] = frozenset(),
        lookout: Lookout | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._confirmed = confirmed
        self._by_hand = by_hand
        self._lookout = lookout
        self._clock = clock
        self._measured = Measurements()
        self._router = Router()
        self._memory = Memory()
        self._names = Names()
        self._tools = Tools({})
        self._here: dict[str, Upstream] = {}
        self._seen: tuple[int, int] = (0, 0)
        self._dirty = True
        self._wake = asyncio.Event()
        self._resources = GatewayResources(lambda: self._current()[1], self.told)
        self._prompts = GatewayPrompts(lambda: self._current()[1])
        self.server = Server(
            INFO,
            GatewayTools(lambda: self._current()[0]),
            self._resources,
            self._prompts,
            INSTRUCTIONS,
            measured=self._measured,
        )
        self._followed = Followed(self.server.changes, lambda: self._current()[1])
        self.server.changes.wanted = self._followed.want
        fleet.changed.append(self._changed)
        with confirmed.changing() as memory:  # what is wrong with it is said at the start
            self._memory = memory

    async def serve(
        self,
        config: Config,
        stdio: bool,
        network: bool,
        say: Callable[[str], None],
        stop: Awaitable[object],
        manager: Manager | None = None,
    ) -> None:
        """Serve until the stdio host is done or `stop` is. Raises: EdgeError."""
        manager = manager or Manager({})
        chosen = listeners(
            config,
            stdio,
            network,
            self.server,
            say,
            links=self._measured.links,
            sockets=manager.sockets(),
            ready=lambda _opened: manager.ready("many devices as one"),
        )
        if not os.isatty(0):  # of a terminal it goes on meaning that it is gone
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload, manager)
        tasks = [asyncio.create_task(listener.listen(self.server.serve)) for listener in chosen.all]
        background = [asyncio.create_task(self._connect()), asyncio.create_task(self._follow())]
        if self._lookout is not None:
            background.append(asyncio.create_task(self._lookout.run()))
        if manager.watchdog_s:
            background.append(asyncio.create_task(watchdog(manager, _turning)))
        stopped = asyncio.ensure_future(stop)
        try:
            done, _ = await asyncio.wait([*tasks, *background, stopped], return_when=asyncio.FIRST_COMPLETED)
            manager.stopping()
            await self.server.drain(DRAIN_S)
            for task in done:
                task.result()
        finally:
            for task in [*tasks, *background, stopped]:
                task.cancel()
            await asyncio.gather(*tasks, *background, stopped, return_exceptions=True)
            await self._followed.close()

    async def _connect(self) -> None:
        """Be connected to the devices until cancelled. What that needs is loaded meanwhile: hosts are answered at once."""
        await asyncio.to_thread(importlib.import_module, "edge_mcp.client.websocket")
        async with self._fleet:
            await asyncio.get_running_loop().create_future()

    def told(self) -> dict[str, Any]:
        """What `gateway://devices` holds: the devices, what is held back and why, and what could not be joined."""
        self._current()
        return {
            "devices": [self._device(upstream) for upstream in self._fleet.upstreams.values()],
            "refused": [{"name": name, "why": why} for name, why in self._fleet.shut.items()],
            "held": [
                {"tool": name, "why": why, "confirm": f"edge-mcp gateway --confirm {name}"}
                for name, why in self._names.held.items()
            ],
            "apart": [{"tool": name, "why": why} for name, why in self._names.apart.items()],
        }

    def _device(self, upstream: Upstream) -> dict[str, Any]:
        prefix = self._names.prefixes.get(upstream.id, "")
        return {
            "name": upstream.name,
            "id": upstream.id,
            "prefix": prefix,
            "url": upstream.target.url,
            "state": upstream.state,
            **({"why": upstream.why} if upstream.why else {}),
            "load": _STATES[min(upstream.load, len(_STATES) - 1)],
            "rtt_ms": round(upstream.rtt_s * 1000, 1),
            "tools": [name for name, tool in self._names.tools.items() if tool.listed and upstream.id in tool.devices],
        }

    # What there is

    def _current(self) -> tuple[Tools, Mapping[str, Upstream]]:
        if self._dirty:
            self._dirty = False
            self._refresh()
        return self._tools, self._here

    def _refresh(self) -> None:
        here = [upstream for upstream in self._fleet.upstreams.values() if self._counts(upstream)]
        offers = [Offer(up.id, up.name, up.tools, up.id in self._by_hand) for up in here]
        before = self._names
        try:
            with self._confirmed.changing() as memory:
                self._names = named(offers, memory)
                self._memory = memory
        except ConfigError as error:
            logger.error("%s", error)
            self._names = named(offers, self._memory)
        self._seen = self._confirmed.state()
        by_id = {upstream.id: upstream for upstream in here}
        self._tools = Tools(
            {
                name: GatewayTool(tool, [by_id[id_] for id_ in tool.devices], self._router)
                for name, tool in self._names.tools.items()
            }
        )
        self._here = dict(sorted((self._names.prefixes[id_], upstream) for id_, upstream in by_id.items()))
        for name in self._names.held.keys() - before.held.keys():
            logger.warning(
                "%s is held back: %s. To allow it: edge-mcp gateway --confirm %s", name, self._names.held[name], name
            )
        for name in self._names.apart.keys() - before.apart.keys():
            logger.warning("%s is a tool of its own: %s", name, self._names.apart[name])

    def _counts(self, upstream: Upstream) -> bool:
        return upstream.state == "up" or self._clock() - upstream.away_since <= KEEP_S

    # What changes

    def _changed(self, _upstream: Upstream, word: str) -> None:
        if word != "load":
            self._dirty = True
        self._wake.set()

    def _reload(self, manager: Manager) -> None:
        manager.reloading()
        self._dirty = True
        self._fleet.look()
        self._wake.set()
        manager.ready()

    async def _follow(self) -> None:
        """Tell hosts what has changed."""
        told = self._lists()
        while True:
            with suppress(TimeoutError):
                # Not wait_for, which before Python 3.12 loses a cancellation that comes with the event: it would never end.
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            left = any(not self._counts(upstream) for upstream in self._here.values())
            self._dirty = self._dirty or left or self._confirmed.state() != self._seen
            lists = self._lists()
            for change, now in lists.items():
                if now != told[change]:
                    self.server.changes.tell(change)
            told = lists
            self._followed.look()
            await asyncio.sleep(DAMP_S)

    def _lists(self) -> dict[Change, Any]:
        tools, here = self._current()
        return {
            TOOLS: [tool.definition for tool in tools.values()],
            PROMPTS: self._prompts.listed(),
            RESOURCES: (self._resources.listed(), [list(upstream.templates) for upstream in here.values()]),
            updated(DEVICES): self.told(),
        }


async def _turning() -> None:
    """The loop turns: more does not run here."""
