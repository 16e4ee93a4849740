"""Everything that `edge-mcp doctor` looks at."""

from collections.abc import Mapping

from edge_mcp.doctor.clock import Time, clock
from edge_mcp.doctor.disk import disk
from edge_mcp.doctor.network import Network, network
from edge_mcp.doctor.service import Programs, service
from edge_mcp.load import doctor
from edge_mcp.load.doctor import Device, Finding
from edge_mcp.sensors.settings import Sensor


def examine(
    device: Device,
    sensors: Mapping[str, Sensor] | None = None,
    time: Time | None = None,
    net: Network | None = None,
    programs: Programs | None = None,
) -> list[Finding]:
    """Look at the device, and at what else is given: its time, its network, the programs that tell of services."""
    return [
        *doctor.examine(device, sensors),
        *disk(device),
        *clock(device, time or Time(device.now)),
        *(network(device, net) if net else ()),
        *(service(device, programs) if programs else ()),
    ]


def examine_here(device: Device, sensors: Mapping[str, Sensor] | None = None) -> list[Finding]:
    """Look at everything of the machine that this runs on."""
    return examine(device, sensors, Time.here(), Network.here(), Programs())
