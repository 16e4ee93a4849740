"""Who may read a sensor when: the user behind the client is asked where that can be, and each access is logged."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from edge_mcp.context import Context, Question
from edge_mcp.errors import EdgeError, RefusedError
from edge_mcp.repeats import EACH
from edge_mcp.sensors.capture import Sensors
from edge_mcp.sensors.content import Snapshot
from edge_mcp.sensors.settings import Sensor
from edge_mcp.transports.base import Peer

logger = logging.getLogger(__name__)

REMEMBERED = 256
PASSING_S = 600.0
"""How long a yes holds for a client whose requests come without a connection."""
_FORM: dict[str, Any] = {"type": "object", "properties": {}}


class SensorAccess:
    """Reads sensors for peers. `consent`: "ask" asks clients that can ask their user, and lets others pass; "required"
    refuses these; "never" asks nobody.

    A yes holds for the sensor until the connection ends; without connections, for the same address and token `PASSING_S`.
    The last `REMEMBERED` are kept.
    """

    def __init__(self, sensors: Sensors, consent: str = "ask", clock: Callable[[], float] = time.monotonic) -> None:
        self.sensors = sensors
        self._consent = consent
        self._clock = clock
        self._given: OrderedDict[tuple[object, str], float] = OrderedDict()  # and until when
        self._asking: WeakValueDictionary[tuple[object, str], asyncio.Lock] = WeakValueDictionary()

    async def read(self, sensor: Sensor, context: Context, purpose: str) -> Snapshot:
        """What a sensor gives now, for `purpose`. Raises: RefusedError (the user said no), SensorError; as Context.ask."""
        await self.allow(sensor, context, purpose)
        try:
            snapshot = await self.sensors.capture(sensor)
        except EdgeError as error:
            logger.info("%s was not read for %s of %s: %s", sensor.uri, purpose, _who(context.peer), error)
            raise
        size = len(snapshot.data)
        who = _who(context.peer)
        logger.info("%s was read for %s of %s: %s, %d bytes", sensor.uri, purpose, who, snapshot.mime_type, size, extra=EACH)
        return snapshot

    async def allow(self, sensor: Sensor, context: Context, purpose: str) -> None:
        """Ask the user once, as far as that is to be done. Raises: RefusedError; as Context.ask."""
        if self._consent == "never":
            return
        what = "record sound" if sensor.media == "audio" else "take a picture" if sensor.media == "image" else "use it now"
        message = f"{purpose} wants to read the sensor {sensor.name!r} of this device ({what}). Allow it on this connection?"
        key = f"sensor:{sensor.name}"
        asked = Question("elicitation/create", {"mode": "form", "message": message, "requestedSchema": _FORM})
        if not asked.suits(context.capabilities):
            if self._consent == "required":
                why = "its user has to agree, and this client cannot ask"
                self._refuse(sensor, context, purpose, why, "Use a client that can (elicitation)")
            return
        book = (_identity(context.peer), sensor.name)
        lock = self._asking.get(book) or self._asking.setdefault(book, asyncio.Lock())
        async with lock:  # two calls at once are one question
            if self._clock() < self._given.get(book, 0.0):
                return
            action = (await context.ask({key: asked}))[key].get("action")
            if action != "accept":
                self._refuse(sensor, context, purpose, "the user does not allow it", "Do without, or ask the user first")
            self._keep(book, self._clock() + PASSING_S if context.peer.passing else float("inf"))

    def _refuse(self, sensor: Sensor, context: Context, purpose: str, why: str, hint: str) -> None:
        logger.info("%s was refused for %s of %s: %s", sensor.uri, purpose, _who(context.peer), why)
        raise RefusedError(f"{sensor.uri} is not read: {why}", hint)

    def _keep(self, book: tuple[object, str], until: float) -> None:
        self._given[book] = until
        self._given.move_to_end(book)
        while len(self._given) > REMEMBERED:
            self._given.popitem(last=False)


def _identity(peer: Peer) -> object:
    """The connection; or, for requests that each are one of their own, where they come from and who they proved to be."""
    return (peer.address, peer.principal) if peer.passing else peer.number


def _who(peer: Peer) -> str:
    return f"{peer.principal} at {peer.address}" if peer.principal else peer.address
