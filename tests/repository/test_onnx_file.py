"""The files in which an ONNX model keeps its weights, and files that lie about them."""

import time
from pathlib import Path

import numpy as np
import pytest

from edge_mcp.errors import ModelError
from edge_mcp.repository.onnx_file import MAX_DEPTH, external_files
from tests.onnx_files import Graph, Tensor, external_tensor, field, graph, model, node, tensor, varint


def written(folder: Path, content: bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(content)
    return path


def weights(*names: str) -> bytes:
    return model(graph([], [], [], [external_tensor("w", (2,), name) for name in names]))


def test_files_are_found_wherever_a_tensor_may_be(tmp_path: Path) -> None:
    inner = graph([node("Constant", [], ["c"], value=Tensor(external_tensor("c", (2,), "c.bin")))], [], [])
    sparse = field(15, field(1, external_tensor("s", (2,), "values.bin")) + field(2, external_tensor("i", (2,), "indices.bin")))
    nodes = [
        node("If", ["x"], ["y"], then_branch=inner),
        node("Constant", [], ["d"], value=Tensor(tensor("d", np.zeros(2, np.float32)))),
    ]
    main = Graph(graph(nodes, [], [], [external_tensor("a", (2,), "a.bin"), external_tensor("b", (2,), "a.bin")]) + sparse)
    function = field(25, field(7, node("Constant", [], ["f"], value=Tensor(external_tensor("f", (2,), "f.bin")))))
    training = field(20, field(1, graph([], [], [], [external_tensor("t", (2,), "t.bin")])))
    found = external_files(written(tmp_path, model(main) + function + training))
    assert found == {"a.bin", "c.bin", "values.bin", "indices.bin", "f.bin", "t.bin"}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"location", b"\xff" * 99, weights()[:-3] + b"\x00"])
def test_what_names_no_files_has_none(tmp_path: Path, content: bytes) -> None:
    assert external_files(written(tmp_path, content), strict=False) == set()


def test_the_real_models_have_none() -> None:
    models = Path(__file__).parents[2] / "models"
    assert [external_files(path) for path in sorted(models.glob("*/*.onnx"))] == [set()] * len(list(models.glob("*/*.onnx")))


@pytest.mark.parametrize(
    "name",
    [
        "../w",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        ".hidden",
        "a\0b",
        "a\nb",
        "\u202eb",
        "x" * 256,
        "C:w",
        "./w",
        "sub/../w",
    ],
)
def test_a_name_that_is_not_plain_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, weights("fine.bin", name))
    with pytest.raises(ModelError, match="which is no plain file name") as refused:
        external_files(path)
    assert str(refused.value).isprintable()
    assert external_files(path, strict=False) == {"fine.bin"}


def test_a_message_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    whole = weights("w.bin")
    for length in range(whole.index(b"w.bin"), len(whole)):
        path = written(tmp_path, whole[:length])
        assert external_files(path, strict=False) == set() or length > whole.index(b"w.bin") + 5
    with pytest.raises(ModelError, match="no ONNX file that can be read"):
        external_files(written(tmp_path, whole[: whole.index(b"w.bin") + 2]))


def test_a_deep_one_is_refused(tmp_path: Path) -> None:
    main = graph([], [], [], [external_tensor("w", (2,), "w.bin")])
    for _ in range(MAX_DEPTH):
        main = graph([node("If", ["x"], ["y"], then_branch=main)], [], [])
    with pytest.raises(ModelError, match="nested too deeply"):
        external_files(written(tmp_path, model(main)))


def test_many_names_and_long_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="in more than 256 files"):
        external_files(written(tmp_path, weights(*map(str, range(257)))))
    with pytest.raises(ModelError, match="a reference to another file is too long"):
        external_files(written(tmp_path, weights("x" * 5000)))


def test_large_numbers_are_no_trouble(tmp_path: Path) -> None:
    huge = b"\x3a" + varint(2**63 - 1) + b"location"
    with pytest.raises(ModelError, match="it ends too early"):
        external_files(written(tmp_path, huge))
    with pytest.raises(ModelError, match="it ends too early"):
        external_files(written(tmp_path, b"\x3a" + b"\xff" * 20 + b"location"))


def test_weights_inside_are_passed_over(tmp_path: Path) -> None:
    content = model(graph([], [], [], [tensor("w", np.zeros(5_000_000, np.float32)), external_tensor("e", (2,), "e.bin")]))
    path = written(tmp_path, content)
    began = time.process_time()
    assert external_files(path) == {"e.bin"}
    assert time.process_time() - began < 1
