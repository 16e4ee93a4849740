"""Label files, read without the model."""

import shutil
from pathlib import Path

import pytest

from edge_mcp.repository.labels import MAX_BYTES, labels
from edge_mcp.repository.manifest import read
from edge_mcp.repository.store import Entry
from tests.processes import ROOT


def entry(folder: Path) -> Entry:
    return Entry(folder, read(folder))


@pytest.mark.parametrize(
    ("name", "one", "count"),
    [
        ("object-detector", "Cat", 23),
        ("language-detector", "de", 97),
        ("image-classifier", "tabby", 1000),
        ("face-detector", "", 0),
    ],
)
def test_the_labels_of_the_shipped_models(name: str, one: str, count: int) -> None:
    found = labels(entry(ROOT / "models" / name))
    assert len(found) == count
    assert not one or any(one in label for label in found)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x\n" * MAX_BYTES, b'{"a": 1}', b"[1]"])
def test_labels_that_cannot_be_read_are_none(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "language-detector"
    shutil.copytree(ROOT / "models/language-detector", folder)
    file = folder / "langid_labels.json"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert labels(entry(folder)) == ()
