"""What a scan makes of folders that this user may not look into."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from edge_mcp.errors import ManifestError
from edge_mcp.repository.store import scan
from tests.cli.command import ROOT, Ran

MODELS = ROOT / "models"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
CAPABILITIES = "-dac_override,-dac_read_search"
ORDINARY = ["setpriv", "--bounding-set", CAPABILITIES, "--inh-caps", CAPABILITIES] if os.geteuid() == 0 else []


def edge_mcp(*words: str, stdin: bytes = b"", environment: Mapping[str, str] = os.environ) -> Ran:
    """A run to which permissions apply."""
    ran = subprocess.run(
        [*ORDINARY, sys.executable, "-m", "edge_mcp", *words],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may enter."""
    folder = tmp_path / "shut"
    folder.mkdir(mode=0)
    yield folder
    folder.chmod(0o700)


def test_a_folder_that_cannot_be_read_is_a_problem_and_the_others_are_served(shut: Path) -> None:
    shutil.copytree(MODELS / "language-detector", shut.parent / "language-detector")
    hint = "Permission denied. Let this user read it, or move it away"
    problem = f"edge-mcp: {shut}/model.toml: cannot be read: {hint}\n"
    ran = edge_mcp("models", "--models", str(shut.parent))
    assert (ran.status, ran.err) == (0, problem)
    assert "detect_language" in ran.out
    ran = edge_mcp("serve", "--stdio", "--models", str(shut.parent), stdin=PING)
    assert (ran.status, ran.out.count("\n")) == (0, 1)
    assert ran.err.startswith(problem + "edge-mcp ")
    assert ": 1 models in " in ran.err


def test_a_users_own_folder_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    own = tmp_path / "edge-mcp/models"
    for folder in (own, own.parent):
        own.mkdir(parents=True, exist_ok=True)
        folder.chmod(0)
        ran = edge_mcp("models", environment={"XDG_DATA_HOME": str(tmp_path)})
        folder.chmod(0o700)
        assert (ran.status, ran.err) == (0, f"edge-mcp: {own} is left out: it cannot be read: Permission denied\n")
        assert "detect_language" in ran.out


def test_a_home_that_cannot_be_entered_does_not_stop_a_server(shut: Path) -> None:
    environment = dict.fromkeys(("XDG_DATA_HOME", "XDG_CACHE_HOME", "STATE_DIRECTORY", "CACHE_DIRECTORY"), "") | {
        "HOME": str(shut)
    }
    ran = edge_mcp("serve", "--stdio", stdin=PING, environment=environment)
    assert (ran.status, ran.out.count("\n")) == (0, 1)
    assert ran.err.count(" is left out: ") == 1
    assert "internal error" not in ran.err


def test_a_token_that_may_be_there_is_not_passed_over(shut: Path) -> None:
    error = edge_mcp(
        "serve", "--listen", "127.0.0.1:0", "--log-level", "error", environment={"XDG_DATA_HOME": str(shut)}
    ).failed()
    hint = "Permission denied. Name another with --token-file"
    assert error == f"the token file {shut}/edge-mcp/token cannot be read: {hint}"


def test_a_link_to_itself_is_a_problem_and_one_to_nothing_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "nothing").symlink_to("nowhere")
    store = scan([tmp_path])
    assert store.entries == ()
    assert [problem.partition(": ")[0] for problem in store.problems] == [str(tmp_path / "round")]


def test_a_folder_that_was_asked_for_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        scan([tmp_path / "none"])
