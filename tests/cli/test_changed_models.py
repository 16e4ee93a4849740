"""Whoever edits a model's manifest sees what they wrote, by `models check` and `call` alike, with no server running."""

import shutil
from pathlib import Path

import pytest

from tests.cli.command import ROOT, Ran, edge_mcp

MANIFEST = "language-detector/model.toml"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with the language detector, which a server has taken in."""
    shutil.copytree(ROOT / "models" / "language-detector", tmp_path / "language-detector")
    assert called(tmp_path, "detect_language").status == 0
    return tmp_path


def edit(own: Path, old: str, new: str) -> None:
    file = own / MANIFEST
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def called(own: Path, tool: str) -> Ran:
    return edge_mcp("call", tool, "text=Wo ist der Bahnhof?", "--json", "--models", str(own))


def checked(own: Path) -> str:
    ran = edge_mcp("models", "check", "language-detector", "--models", str(own))
    return ran.out + ran.err


def test_check_is_about_the_manifest_as_it_was_last_written(own: Path) -> None:
    edit(own, "detect_language", "tell_language")
    edit(own, 'label = "de"', 'label = "xx"')
    assert 'should be "xx", but is "de"' in checked(own)
    edit(own, "[tool]", "[tol]")
    assert checked(own).startswith("edge-mcp: language-detector is left out: ")
    assert "Did you mean 'tool'?" in checked(own)


def test_check_and_bench_write_nothing(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "language-detector", tmp_path / "language-detector")
    assert "ok (digest ok" in checked(tmp_path)
    assert edge_mcp("models", "bench", "detect_language", "--seconds", "0.1", "--models", str(tmp_path)).status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["language-detector"]


def test_check_looks_again_at_what_was_refused(own: Path) -> None:
    edit(own, 'version = "1.0.0"', 'version = "0.5.0"')
    assert "below 1.0.0" in called(own, "detect_language").err
    assert checked(own).startswith("language-detector 0.5.0: ok")


def test_a_call_uses_the_model_as_it_was_last_written(own: Path) -> None:
    edit(own, 'name = "detect_language"', 'name = "tell_language"')
    ran = called(own, "tell_language")
    assert (ran.status, ran.err) == (0, "")
    assert '"label":"de"' in ran.out


def test_a_call_with_a_change_that_cannot_be_served_goes_to_the_model_of_before(own: Path) -> None:
    edit(own, "[tool]", "[tol]")
    ran = called(own, "detect_language")
    assert ran.status == 0
    assert ran.err.count("\n") == 1
    assert "Did you mean 'tool'?" in ran.err
