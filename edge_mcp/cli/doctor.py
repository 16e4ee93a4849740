"""`edge-mcp doctor`: what may be wrong with this device."""

import argparse
import sys

import msgspec

from edge_mcp.cli.options import Parser
from edge_mcp.cli.render import printable
from edge_mcp.config import data_folder, load
from edge_mcp.doctor.whole import examine_here
from edge_mcp.load.doctor import Device, Finding
from edge_mcp.sensors.settings import sensors_of

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def parser() -> Parser:
    """The command's options."""
    parser = Parser("doctor", "Look at the device: what may be wrong, what it costs, and what to do.", "edge-mcp doctor --json")
    parser.add_config()
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_debug()
    return parser


def run(options: argparse.Namespace) -> int:
    """Examine this device, and the sensors of its settings; 1 when there is a problem. Raises: ConfigError."""
    sensors = sensors_of(load(options.config, {}).sensors)
    findings = examine_here(Device.here(data_folder()), sensors)
    if options.json:
        sys.stdout.write(msgspec.json.encode(findings).decode() + "\n")
    else:
        print("\n".join(_line(finding) for finding in findings))
    return int(any(finding.level == "problem" for finding in findings))


def _line(finding: Finding) -> str:
    parts = [f"{_MARKS[finding.level]}  {printable(f'{finding.name}: {finding.found}')}"]
    parts += [f"         so: {printable(finding.cost)}"] if finding.cost else []
    parts += [f"         do: {printable(finding.do)}"] if finding.do else []
    return "\n".join(parts)
