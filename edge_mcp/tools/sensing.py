"""Sensors as the value of a tool's argument: found in the arguments as they came, asked for, and read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from edge_mcp.config import Config
from edge_mcp.context import Context
from edge_mcp.errors import ArgumentError
from edge_mcp.protocol.codec import Arguments
from edge_mcp.protocol.jsonrpc import UNDECODABLE
from edge_mcp.repository.inputs import AudioInput, ImageInput, Input
from edge_mcp.sensors.access import SensorAccess
from edge_mcp.sensors.capture import Sensors
from edge_mcp.sensors.content import WORDS
from edge_mcp.sensors.settings import SCHEME, Sensor, sensors_of

MAX_ARGUMENTS = 64 * 1024
"""Bytes of arguments that are searched for a sensor: what is longer carries its picture or sound itself."""
_SHOWN = 10
_ARGUMENT_OF: dict[type[Input], str] = {ImageInput: "image", AudioInput: "audio"}  # which is the kind of medium too


class Sensing:
    """What sensors are to one tool, called `tool`: the values `sensor://NAME` of its `argument` (image or audio)."""

    def __init__(self, access: SensorAccess, tool: str, argument: str) -> None:
        self._access = access
        self._tool = tool
        self._argument = argument
        self._named_in = msgspec.defstruct("Named", [(argument, str, "")])
        self._fitting = [sensor.uri for sensor in access.sensors.all if sensor.media in ("", argument)]

    @classmethod
    def of(cls, access: SensorAccess | None, tool: str, taken: Input) -> "Sensing | None":
        """For a tool that takes this; None where it is no picture and no sound, or there are no sensors."""
        argument = _ARGUMENT_OF.get(type(taken))
        return cls(access, tool, argument) if access is not None and argument else None

    def described(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The tool's schema, which says that sensors may be named and which."""
        if not self._fitting:
            return schema
        more = ", …" if len(self._fitting) > _SHOWN else ""
        words = f" Or a sensor of this device, read now: {', '.join(self._fitting[:_SHOWN])}{more}."
        known = schema["properties"]
        said = {**known[self._argument], "description": known[self._argument].get("description", "") + words}
        return {**schema, "properties": {**known, self._argument: said}}

    def seconds(self, arguments: Arguments) -> float:
        """How long the sensor that they name records; 0 where they name none."""
        text = self._named(arguments)
        sensor = self._access.sensors.get(text)
        return sensor.seconds if sensor else 0.0

    async def allow(self, arguments: Arguments, context: Context) -> None:
        """Ask the user if a sensor is named. Raises: ArgumentError, RefusedError; as Context.ask."""
        if (sensor := self._sensor(arguments)) is not None:
            await self._access.allow(sensor, context, self._tool)

    async def attached(self, arguments: Arguments, context: Context) -> dict[str, bytes]:
        """What takes the argument's place if a sensor is named. Raises: ArgumentError, RefusedError, SensorError."""
        sensor = self._sensor(arguments)
        if sensor is None:
            return {}
        snapshot = await self._access.read(sensor, context, self._tool)
        if not snapshot.mime_type.startswith(self._argument):
            raise self._unfit(sensor, snapshot.mime_type)
        return {self._argument: snapshot.data}

    def _sensor(self, arguments: Arguments) -> Sensor | None:
        text = self._named(arguments)
        if not text:
            return None
        sensor = self._access.sensors.find(text)
        if sensor.media not in ("", self._argument):
            raise self._unfit(sensor, sensor.media)
        return sensor

    def _named(self, arguments: Arguments) -> str:
        """The argument's value if it begins as a sensor's URI; what is wrong with it otherwise is the engine's to tell."""
        if len(arguments.data) > MAX_ARGUMENTS:
            return ""
        try:
            text: str = getattr(arguments.decode(self._named_in), self._argument)
        except UNDECODABLE:
            return ""
        return text if text[: len(SCHEME) - 2].lower() == SCHEME[:-2] else ""

    def _unfit(self, sensor: Sensor, gives: str) -> ArgumentError:
        there = ", ".join(self._fitting[:_SHOWN]) or "none"
        return ArgumentError(
            f"{sensor.uri} gives {gives}, and the argument {self._argument} takes {WORDS[self._argument]}",
            f"Sensors for it: {there}",
        )


def configured(config: Config) -> tuple[SensorAccess, Callable[[str, Input], Sensing | None]]:
    """The configured sensors as peers get at them, and what they are to a tool. Raises: ConfigError."""
    access = SensorAccess(Sensors(sensors_of(config.sensors), config.sensor_timeout_s), config.sensor_consent)
    return access, partial(Sensing.of, access)
