"""The official conformance suite against server.py. Its checks are counted: its exit code is 0 for what it skipped, too."""

import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.peers import CONFORMANCE, MODULES, run
from tests.processes import ROOT

# How many scenarios the suite scores, and how many checks of all that it runs succeed: a check that no longer runs is noticed.
REQUIREMENTS = {"2025-11-25": (30, 83), "2026-07-28": (37, 196)}
TASKS = [
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-status-notifications",  # empty in this version of the suite
    "tasks-required-task-error",
    "tasks-mrtr-composition",
]
PENDING = ["json-schema-2020-12", "http-header-validation", "http-custom-header-server-validation"]
EMPTY = {"tasks-status-notifications"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the server under test is. Its name has to be localhost: the suite compares."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, ROOT / "tests/conformance/server.py", "--port", str(port)], cwd=ROOT)
    try:
        for _ in range(200):
            assert process.poll() is None, "the server did not start"
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://localhost:{port}/mcp"
        assert process.poll() is None, "the server did not live through the suite"
    finally:
        process.terminate()
        process.wait(10)


def counted(folder: Path) -> dict[str, Counter[str]]:
    """How many checks of each scenario had which status. Raises: AssertionError that names every failed check."""
    failures: list[str] = []
    counts: dict[str, Counter[str]] = {}
    for file in sorted(folder.glob("*/checks.json")):
        found = re.fullmatch(r"(?:server-)?(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", file.parent.name)
        assert found, file.parent.name
        checks = json.loads(file.read_text())
        counts[found[1]] = Counter(check["status"] for check in checks)
        failures += [
            f"{found[1]}: {check['id']}: {check.get('errorMessage') or check['description']}: {check.get('details')}"[:2000]
            for check in checks
            if check["status"] in ("FAILURE", "WARNING")
        ]
    assert not failures, "\n".join(failures)
    return counts


def report(capsys: pytest.CaptureFixture[str], what: str, counts: dict[str, Counter[str]]) -> None:
    """Say the counts in the log of the tests, whatever pytest shows of it."""
    total: Counter[str] = sum(counts.values(), Counter())
    with capsys.disabled():
        sys.stdout.write(f"\nconformance {what}: {len(counts)} scenarios, {total['SUCCESS']} checks passed, 0 failed\n")


@pytest.mark.parametrize("revision", REQUIREMENTS)
async def test_requirements(revision: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = await run(*CONFORMANCE, "server", "--url", url, "--requirements", revision, "-o", tmp_path, within=240, codes=(0, 1))
    counts = counted(tmp_path)
    report(capsys, revision, counts)
    scored = required(revision)
    assert (len(scored), sum(count["SUCCESS"] for count in counts.values())) == REQUIREMENTS[revision]
    assert scored <= set(counts), said[-2000:]
    for scenario in set(counts) - EMPTY:
        assert counts[scenario]["SUCCESS"], f"{scenario} has checked nothing"


def required(revision: str) -> set[str]:
    """The scenarios that the suite itself demands of a server of that revision."""
    text = (MODULES / f"@modelcontextprotocol/conformance/requirements/{revision}.yaml").read_text()
    server = text.partition("\nserver:\n")[2].partition("\nclient:\n")[0]
    return set(re.findall(r"^  - (\S+)", server, re.MULTILINE))


@pytest.mark.parametrize("scenario", TASKS + PENDING)
async def test_beyond_the_requirements(scenario: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--scenario", scenario, "--spec-version", "2026-07-28", "--force"]
    said = await run(*CONFORMANCE, "server", "--url", url, *more, "-o", tmp_path, within=120, codes=(0, 1))
    counts = counted(tmp_path)
    report(capsys, scenario, counts)
    assert list(counts) == [scenario], said[-2000:]
    assert counts[scenario]["SUCCESS"] or scenario in EMPTY, said[-2000:]
