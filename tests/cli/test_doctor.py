"""`edge-mcp doctor`, on this very machine."""

import json
from pathlib import Path

from tests.cli.command import edge_mcp


def test_every_finding_is_a_line_and_says_how_it_is() -> None:
    ran = edge_mcp("doctor")
    assert ran.err == ""
    assert "ok       userland: 64 bits, " in ran.out
    assert "ok       package onnxruntime: " in ran.out
    assert ran.status == int("PROBLEM" in ran.out)


def test_findings_as_json() -> None:
    ran = edge_mcp("doctor", "--json")
    findings = json.loads(ran.out)
    assert {"userland", "memory", "disk"} <= {finding["name"] for finding in findings}
    assert all(set(finding) == {"name", "level", "found", "cost", "do"} for finding in findings)


def test_the_sensors_of_the_settings_are_looked_at(tmp_path: Path) -> None:
    settings = tmp_path / "edge-mcp.toml"
    settings.write_text('[sensors]\ndoor = "camera:/dev/video250"\nlast = "file:/etc/hostname"\n')
    ran = edge_mcp("doctor", "--config", str(settings))
    assert ran.status == 1
    assert "PROBLEM  sensor door: /dev/video250 is not there" in ran.out
    assert "ok       sensor last: /etc/hostname" in ran.out


def test_settings_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "edge-mcp.toml").write_text('[sensors]\ndoor = "door:bell"\n')
    assert "of no known kind" in edge_mcp("doctor", "--config", str(tmp_path / "edge-mcp.toml")).failed()
