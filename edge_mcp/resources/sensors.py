"""The sensors as resources: reading one takes a picture or a sound."""

from collections.abc import Mapping, Sequence

from edge_mcp.context import Context
from edge_mcp.resources.base import Contents, ResourceDefinition, TemplateDefinition
from edge_mcp.sensors.access import SensorAccess
from edge_mcp.sensors.settings import Sensor

_TYPES = {
    "camera": "image/jpeg",
    "picamera2": "image/jpeg",
    "microphone": "audio/wav",
}
_SAYS = {
    "image": "A picture, taken when this is read.",
    "audio": "A sound, recorded when this is read.",
    "": "What the sensor gives when this is read.",
}


class SensorResources:
    """See resources.base.Resources."""

    def __init__(self, access: SensorAccess) -> None:
        self._access = access

    async def resources(self) -> Sequence[ResourceDefinition]:
        """See Resources."""
        return [_listed(sensor) for sensor in self._access.sensors.all]

    async def templates(self) -> Sequence[TemplateDefinition]:
        """See Resources."""
        return []

    async def read(self, uri: str, context: Context) -> Sequence[Contents] | None:
        """See Resources."""
        sensor = self._access.sensors.get(uri)
        if sensor is None:
            return None
        snapshot = await self._access.read(sensor, context, "resources/read")
        return [Contents(sensor.uri, snapshot.mime_type, blob=snapshot.data)]

    async def complete(self, template: str, argument: str, value: str, known: Mapping[str, str]) -> Sequence[str]:
        """See Resources."""
        return []


def _listed(sensor: Sensor) -> ResourceDefinition:
    title = f"Sensor {sensor.name}"
    return ResourceDefinition(sensor.uri, sensor.name, title, _SAYS[sensor.media], _TYPES.get(sensor.kind, ""))
