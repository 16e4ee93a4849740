"""What batches cost is remembered for this very model, runtime and processor."""

from pathlib import Path

import msgspec
import pytest

from edge_mcp.engine.messages import ModelSpec
from edge_mcp.repository.store import derived
from edge_mcp.scheduling import curves
from edge_mcp.scheduling.curves import Curves

SPEC = ModelSpec("m@1.0.0-12345678", "", derived(Path("m.onnx")), {})
SECONDS = {1: 0.001, 2: 0.0015, 4: 0.0025}


def test_a_curve_is_there_at_the_next_start(tmp_path: Path) -> None:
    Curves(tmp_path / "curves").put(SPEC, SECONDS)
    found = Curves(tmp_path / "curves").get(SPEC)
    assert found is not None
    assert found.points() == SECONDS


def test_other_content_other_threads_and_another_runtime_are_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Curves(tmp_path)
    store.put(SPEC, SECONDS)
    assert store.get(msgspec.structs.replace(SPEC, key="m@1.0.0-87654321")) is None
    resources = msgspec.structs.replace(SPEC.manifest.resources, threads=2)
    assert (
        store.get(msgspec.structs.replace(SPEC, manifest=msgspec.structs.replace(SPEC.manifest, resources=resources))) is None
    )
    monkeypatch.setattr(curves, "_version", lambda package: "onnxruntime-99.0.dist-info")
    assert store.get(SPEC) is None


def test_the_runtimes_version_is_part_of_it() -> None:
    assert curves._version("onnxruntime").startswith("onnxruntime-1.")
    assert curves._version("ai_edge_litert").startswith("ai_edge_litert-")
    assert curves._version("nothing_of_this_name") == "nothing_of_this_name"


@pytest.mark.parametrize("content", [b"", b"{", b'{"of":[],"seconds":{}}', b"\xff\xfe", b'{"of":[],"seconds":{"1":-1}}'])
def test_a_file_that_is_torn_is_no_curve(tmp_path: Path, content: bytes) -> None:
    store = Curves(tmp_path)
    store.put(SPEC, SECONDS)
    for file in tmp_path.iterdir():
        file.write_bytes(content)
    assert store.get(SPEC) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = Curves(tmp_path / "file")
    store.put(SPEC, SECONDS)
    assert store.get(SPEC) is None
