"""Takes a picture or a sound with a sensor, in time and one at a time."""

import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import edge_mcp
from edge_mcp.errors import ArgumentError, SensorError
from edge_mcp.sensors.child import Output, output_of
from edge_mcp.sensors.content import WORDS, Snapshot, mime_type
from edge_mcp.sensors.files import Files
from edge_mcp.sensors.settings import SCHEME, Sensor, nearest

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 1024 * 1024
SHARED_S = 0.5
"""Who asks within this time of the beginning of a capture gets what it gives; who asks later waits for the next one."""
MAX_CAPTURES = 4
_PROGRAMS = {"camera": "camera", "picamera2": "picamera", "microphone": "microphone"}
_MARK = "edge-mcp: "
_SECRETS = ("EDGE_MCP_TOKEN",)


class Sensors:
    """The configured sensors. `limit_s` is what a capture may take, beyond the seconds that a sensor records.

    At most `MAX_CAPTURES` run at once. Each runs outside this process, or in a thread where it is a file.
    """

    def __init__(
        self, sensors: Mapping[str, Sensor], limit_s: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sensors = sensors
        self._limit_s = limit_s
        self._clock = clock
        self._captures: dict[str, _Capture] = {}
        self._room = asyncio.Semaphore(MAX_CAPTURES)
        self._files = {
            sensor.name: Files(Path(sensor.target), sensor.kind == "folder", MAX_BYTES)
            for sensor in sensors.values()
            if sensor.kind in ("file", "folder")
        }

    @property
    def all(self) -> tuple[Sensor, ...]:
        """In the order of the configuration."""
        return tuple(self._sensors.values())

    @property
    def sentence(self) -> str:
        """What a language model should know of them."""
        named = ", ".join(sensor.uri for sensor in self._sensors.values())
        return f"Sensors of this device, to be read as resources or named as pictures or sounds in arguments: {named}."

    @property
    def pictures(self) -> tuple[str, ...]:
        """The URIs of those that can give a picture."""
        return tuple(sensor.uri for sensor in self._sensors.values() if sensor.media in ("", "image"))

    def get(self, uri: str) -> Sensor | None:
        """The sensor of a URI; None where there is none."""
        return self._sensors.get(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else None

    def find(self, uri: str) -> Sensor:
        """The sensor that an argument names. Raises: ArgumentError, with the nearest that is there."""
        sensor = self.get(uri)
        if sensor is None:
            raise ArgumentError(f"there is no sensor {uri[:100]!r}", nearest(uri[:200].removeprefix(SCHEME), self._sensors))
        return sensor

    async def capture(self, sensor: Sensor) -> Snapshot:
        """What it gives now. When everybody who waits for it is gone, the capture ends. Raises: SensorError."""
        while (current := self._captures.get(sensor.name)) and (current.leaving or self._clock() - current.began > SHARED_S):
            await asyncio.wait([current.task])
        if current is None:
            current = self._captures[sensor.name] = _Capture(asyncio.create_task(self._take(sensor)), self._clock())
            current.task.add_done_callback(lambda task: self._ended(sensor.name, task))
        current.waiting += 1
        try:
            return await asyncio.shield(current.task)
        except asyncio.CancelledError:
            if current.task.cancelled():
                raise SensorError(f"{sensor.uri} was not read: the server is stopping") from None
            raise
        finally:
            current.waiting -= 1
            if not current.waiting and not current.task.done():
                current.leaving = True  # whoever asks now waits until the device is free again
                current.task.cancel()

    def _ended(self, name: str, task: "asyncio.Task[Snapshot]") -> None:
        if (current := self._captures.get(name)) and current.task is task:
            del self._captures[name]
        if not task.cancelled():
            task.exception()  # marks it as seen: whoever asked may be gone

    async def _take(self, sensor: Sensor) -> Snapshot:
        async with self._room:
            try:
                data = await self._read(sensor)
            except SensorError as error:
                raise SensorError(f"{sensor.uri} cannot be read: {error.message}", error.hint) from error
        if not data:
            raise SensorError(f"{sensor.uri} gave nothing: it has no bytes", "See on the device what it does")
        mime = mime_type(data)
        if not mime:
            raise SensorError(
                f"{sensor.uri} gave {len(data)} bytes that are neither picture nor sound",
                f"It has to give {' or '.join(WORDS.values())}",
            )
        return Snapshot(mime, data)

    async def _read(self, sensor: Sensor) -> bytes:
        limit_s = self._limit_s + sensor.seconds
        if files := self._files.get(sensor.name):
            try:
                async with asyncio.timeout(limit_s):
                    return await files.read()
            except TimeoutError:
                raise SensorError(f"it took longer than {limit_s:g} s", "See whether its disk answers") from None
        command = shlex.split(sensor.target) if sensor.kind == "command" else _program(sensor)
        output = await output_of(command, limit_s, MAX_BYTES, _environment())
        if output.status:
            raise _failed(sensor, command[0], output)
        return output.data


class _Capture:
    """One that is under way, when it began and how many wait for it."""

    def __init__(self, task: "asyncio.Task[Snapshot]", began: float) -> None:
        self.task = task
        self.began = began
        self.waiting = 0
        self.leaving = False


def _program(sensor: Sensor) -> list[str]:
    """Our own program for a device: it imports what this process must not, and a driver that hangs or crashes takes only it."""
    words = [f"{name}={value:g}" for name, value in sensor.options.items()]
    module = f"edge_mcp.sensors.device.{_PROGRAMS[sensor.kind]}"
    return [sys.executable, "-P", "-m", module, str(os.getpid()), sensor.target, *words]


def _environment() -> dict[str, str]:
    """Without secrets; and our own programs find this very package."""
    home = str(Path(edge_mcp.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    own = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    return {**own, "PYTHONPATH": f"{home}{os.pathsep}{inherited}" if inherited else home}


def _failed(sensor: Sensor, program: str, output: Output) -> SensorError:
    """What a program that ended badly means. What the owner's own command said is for the log: peers need not see it."""
    lines = output.errors.strip().splitlines()
    if sensor.kind != "command":
        said = next((line.removeprefix(_MARK) for line in reversed(lines) if line.startswith(_MARK)), "")
        if said:
            message, _, hint = said.partition(". ")
            return SensorError(message, hint)
        program = f"the {sensor.kind}'s library"
    how = f"ended with status {output.status}" if output.status > 0 else f"was ended by signal {-output.status}"
    if lines:
        logger.warning("%s: %s", sensor.uri, lines[-1][:500])
    return SensorError(f"{Path(program).name} {how}", "The log of edge-mcp has its last words" if lines else "See what it does")
