"""`edge-mcp models check`: what is right is one line, and so is what is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.cli.models.check import difference
from edge_mcp.cli.models.samples import check_arguments
from edge_mcp.errors import ManifestError
from edge_mcp.repository.sections import Check
from tests.cli.command import FIXTURES, ROOT, edge_mcp, hears_ctrl_c

SHIPPED = ROOT / "models"


def copied(tmp_path: Path, name: str, old: str = "", new: str = "") -> Path:
    """A shipped model, with one thing in its manifest changed."""
    folder = tmp_path / name
    shutil.copytree(SHIPPED / name, folder)
    text = (folder / "model.toml").read_text("utf-8")
    assert old in text
    (folder / "model.toml").write_text(text.replace(old, new), "utf-8")
    return folder


def problem(tmp_path: Path, *words: str) -> str:
    ran = edge_mcp("models", "check", *words, "--models", str(tmp_path))
    assert (ran.status, ran.err) == (1, ""), ran
    assert ran.out.count("\n") == 1
    return ran.out.rstrip("\n")


def test_every_model_that_ships_has_a_check_and_passes() -> None:
    ran = edge_mcp("models", "check", "--json", "--models", str(SHIPPED))
    assert ran.status == 0, ran
    found = json.loads(ran.out)["models"]
    assert sorted(model["model"] for model in found) == sorted(path.parent.name for path in SHIPPED.glob("*/model.toml"))
    for model in found:
        assert (model["problem"], model["digest"]) == ("", "ok")
        assert model["checks"] >= 1
        assert model["load_ms"] > 0


def test_no_sample_is_large() -> None:
    samples = list(SHIPPED.glob("*/sample.*"))
    assert len(samples) >= 3
    assert all(path.stat().st_size <= 20_000 for path in samples)


def test_one_model_by_its_tools_name_is_one_line() -> None:
    ran = edge_mcp("models", "check", "detect_language", "--models", str(SHIPPED))
    assert ran.out.startswith("language-detector 1.0.0: ok (digest ok, loaded in ")
    assert ran.out.endswith("3 calls as expected)\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('label = "de", labels', 'label = "nl", labels', 'check 1: label should be "nl", but is "de"'),
        ('{ label = "ja" }', "{ labels = [] }", "check 2: labels should be [], but is [{"),
        ('{ label = "ja" }', "{ lable = 1 }", "check 2: lable should be 1, but is missing"),
        ("score = 1.0", "score = 0.5", "check 1: labels[0].score should be 0.5, but is "),
        ('text = "Der', 'txt = "Der', "check 1 was answered with an error: argument text is missing"),
        ('text = "Der', 'threshold = 2, text = "Der', "argument threshold must be at most 1"),
        ('text = "Der', 'text = "@nothing", more = "Der', "nothing is not there, or is no plain file"),
        ('text = "Der', 'text = "@../../secret", more = "Der', "names no file of this folder"),
        ('sha256 = "d930', 'sha256 = "0930', "has the SHA-256 d930"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(tmp_path: Path, old: str, new: str, said: str) -> None:
    copied(tmp_path, "language-detector", old, new)
    line = problem(tmp_path)
    assert "language-detector" in line
    assert said in line


def test_the_sample_of_a_check_is_a_plain_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").mkdir()
    for name in ("@link", "@inner", "@../secret", f"@{tmp_path}/secret", "@", "@a\0b", "@..", "@."):
        with pytest.raises(ManifestError):
            check_arguments(Check({"text": name}, {}), folder, {"properties": {"text": {"type": "string"}}}, "tool")
    given = check_arguments(Check({"text": "@@x", "number": 1}, {}), folder, {"properties": {}}, "tool")
    assert given == {"text": "@x", "number": 1}


def test_a_model_that_does_not_load_says_why_and_the_others_are_checked(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "models" / "BAD_static_quant_fails_to_prepare.tflite", tmp_path)
    shutil.copy(FIXTURES / "models" / "sine_float.tflite", tmp_path)
    ran = edge_mcp("models", "check", "--models", str(tmp_path))
    assert ran.status == 1
    bad, good = sorted(ran.out.splitlines())
    assert bad.startswith("bad-static-quant-fails-to-prepare 0.0.0: FAILED: BAD_static_quant")
    assert "cannot be loaded" in bad
    assert good.startswith("sine-float 0.0.0: ok (")


def test_a_manifest_that_is_wrong_is_a_failure(tmp_path: Path) -> None:
    copied(tmp_path, "language-detector", "[output]", "[outptu]")
    assert "Did you mean 'output'?" in problem(tmp_path)


def test_ctrl_c_while_the_engine_starts_is_quiet() -> None:
    command = [sys.executable, "-m", "edge_mcp", "models", "check", "--models", str(SHIPPED)]
    process = subprocess.Popen(
        command, cwd=ROOT, process_group=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hears_ctrl_c
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 130
    until = time.monotonic() + 20
    while Path(f"/proc/{found[0]}").exists():  # it was on its way up, and finds that nobody is there
        assert time.monotonic() < until
        time.sleep(0.02)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    error = edge_mcp("models", "check", "face-detecter", "--models", str(SHIPPED)).failed()
    assert "Did you mean 'face-detector'?" in error


@pytest.mark.parametrize(
    ("expected", "got", "different"),
    [
        ({"a": 1}, {"a": 1.004, "b": 2}, ""),
        ({"a": 1}, {"a": 1.02}, "a should be 1, but is 1.02"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b[1] should be 2, but is 3"),
        ({"a": [1]}, {"a": [1, 2]}, "a should be [1], but is [1,2]"),
        ({"a": True}, {"a": 1}, "a should be true, but is 1"),
        ({"a": 1}, {"a": True}, "a should be 1, but is true"),
        ({"a": "x"}, {"a": "x" * 500}, 'a should be "x", but is "' + "x" * 119 + "…"),
        ({"a": 1.0}, {"a": None}, "a should be 1.0, but is null"),
        ({"a": {}}, {"a": []}, "a should be {}, but is []"),
        ({"a": [{}, {}]}, {"a": [{"b": 1}, {"c": 2}]}, ""),
    ],
)
def test_a_part_of_the_answer_has_to_be_as_expected(expected: Any, got: Any, different: str) -> None:
    assert difference(expected, got, 0.01) == different
