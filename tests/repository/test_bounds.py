"""Manifests that are too large, too odd, or no files at all."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_mcp.engine.host.files import read_beside
from edge_mcp.errors import ManifestError, ModelError
from edge_mcp.repository.bounds import MAX_BYTES, MAX_DOTS
from edge_mcp.repository.labels import labels
from edge_mcp.repository.manifest import parse, read
from edge_mcp.repository.store import look, scan
from tests.repository.test_manifest import LEAST, WHOLE

SSD = """
[input]
kind = "image"
size = [32, 32]
[output]
decoder = "ssd"
boxes = "b"
scores = "s"
labels = "l.txt"
strides = [16]
"""
BYTES = """
[input]
kind = "bytes"
begin = 8
end = 8
block = 16
padding = 256
[output]
decoder = "softmax"
labels = "l.txt"
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST + "x = " + "9" * 5000, "not valid TOML"),
        (LEAST + "title = " + "9" * 25, "too large"),
        (LEAST + "[[check]]\narguments = {a = [[{b = nan}]]}\nexpect = {}", "none"),
        (LEAST + "[[check]]\narguments = {a = [-inf]}\nexpect = {}", "infinite"),
        (LEAST + "a" + ".a" * (MAX_DOTS + 1) + " = 1", "dots"),
        (LEAST + "#" * MAX_BYTES, "longer than"),
        (LEAST + "[scheduling]\ndeadline_ms = 9223372036854775807", "deadline_ms"),
        (LEAST + "[scheduling]\nmax_batch_size = -1", "max_batch_size"),
        (LEAST + "[scheduling]\nmax_batch_size = 1099511627776", "max_batch_size"),
        (LEAST + "[resources]\nmemory_mb = -1", "memory_mb"),
        (LEAST + "[resources]\nkeep_loaded_s = 9223372036854775807", "keep_loaded_s"),
        (WHOLE.replace("birds.txt", "../../etc/hostname"), "output.labels"),
        (WHOLE.replace("birds.txt", "/etc/hostname"), "output.labels"),
        (WHOLE.replace("birds.txt", "a\\u0000b"), "output.labels"),
        (WHOLE.replace("birds.txt", ".."), "output.labels"),
        (WHOLE.replace("birds.txt", ""), "output.labels"),
        (WHOLE.replace('"birds.txt"', '"birds.txt"\nthreshold = 2.0'), "output.threshold"),
        (WHOLE.replace('"birds.txt"', '"birds.txt"\nmax_results = 1000000'), "output.max_results"),
        (LEAST + SSD.replace("[16]", "[0]"), "output.strides"),
        (LEAST + SSD.replace("[16]", "[]"), "output.strides"),
        (LEAST + SSD.replace("[16]", str([1] * 33)), "output.strides"),
        (LEAST + SSD + "aspect_ratios = [0.0]", "output.aspect_ratios"),
        (LEAST + SSD + "aspect_ratios = " + str([1.0] * 65), "output.aspect_ratios"),
        (LEAST + SSD + "variances = [0.0, 1.0]", "output.variances"),
        (LEAST + SSD + "min_scale = -1.0", "output.min_scale"),
        (LEAST + SSD + "iou = -1.0", "output.iou"),
        (LEAST + BYTES.replace("begin = 8", "begin = 1099511627776"), "input"),
        (LEAST + BYTES.replace("begin = 8", "begin = -8"), "input"),
        (LEAST + BYTES.replace("256", "4294967296"), "input.padding"),
    ],
)
def test_what_is_absurd_is_refused_in_one_line_and_soon(text: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(ManifestError, match=said) as refused:
        parse(text)
    assert str(refused.value).isprintable()
    assert time.process_time() - began < 5


def test_what_is_large_and_not_absurd_is_taken() -> None:
    numbers = ",\n".join([", ".join(["0.5"] * 900)] * 10)
    check = "[[check]]\narguments = {a = 18446744073709551615}\nexpect.a = [" + numbers + "]"
    assert len(parse(LEAST + SSD + check).check[0].expect["a"]) == 9000


@pytest.mark.parametrize("kind", ["pipe", "sparse"])
def test_a_manifest_that_is_no_small_file_neither_hangs_nor_fills_the_memory(tmp_path: Path, kind: str) -> None:
    (tmp_path / "net").mkdir()
    path = tmp_path / "net/model.toml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 2**40)
    with pytest.raises(ManifestError, match="cannot be read"):
        read(tmp_path / "net")


@pytest.mark.parametrize("kind", ["pipe", "sparse"])
def test_a_file_beside_the_model_is_a_plain_one_and_not_large(tmp_path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "labels.txt")
    else:
        (tmp_path / "labels.txt").touch()
        os.truncate(tmp_path / "labels.txt", 2**40)
    with pytest.raises(ModelError, match=r"labels\.txt cannot be read"):
        read_beside(tmp_path, "labels.txt")


def test_no_other_file_of_the_device_becomes_labels(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    folder = tmp_path / "models/bird-classifier"
    folder.mkdir(parents=True)
    (folder / "birds.onnx").write_bytes(b"x")
    (folder / "model.toml").write_text(WHOLE.replace("birds.txt", str(tmp_path / "secret")))
    found = scan([tmp_path / "models"])
    assert not [labels(entry) for entry in found.entries]
    assert "output.labels" in found.problems[0]


@pytest.mark.parametrize("name", [b"x\xff", b"x\n\x1b[31mred", b"x\x7f", "x\u202ey".encode()])
def test_a_name_that_cannot_be_printed_is_a_problem_and_no_more(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "model.toml").write_text(LEAST)
    (tmp_path / f"{os.fsdecode(name)}.onnx").write_bytes(b"x")
    for found in (scan([tmp_path]), look([tmp_path])):
        assert not found.entries
        assert len(found.problems) == 2
        assert all(problem.isprintable() for problem in found.problems)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [("big.onnx", 2**40, "8 GiB"), ("big.tflite", 2**40, "8 GiB"), ("big.tflite", 2**30, "No space left")],
)
def test_what_is_too_large_is_refused_before_a_byte_is_written(
    tmp_path: Path, name: str, size: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, size)
    room = 1 if said == "No space left" else 2**30
    monkeypatch.setattr(os, "statvfs", lambda path: _Room(4096, room))
    began = time.process_time()
    found = scan([tmp_path])
    assert time.process_time() - began < 2
    assert not found.entries
    assert said in found.problems[0]


class _Room(NamedTuple):
    f_frsize: int
    f_bavail: int


def test_a_manifest_that_is_huge_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/model.toml").touch()
    os.truncate(tmp_path / "net/model.toml", 2**32)
    began = time.process_time()
    assert "larger than 128 KiB" in scan([tmp_path]).problems[0]
    assert time.process_time() - began < 1
