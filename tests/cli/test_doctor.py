"""`edge-mcp doctor`, on this very machine."""

import json

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
