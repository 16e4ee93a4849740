"""What is found in folders of models."""

from pathlib import Path

import pytest

from edge_mcp.engine.messages import Described, Signature
from edge_mcp.errors import ManifestError
from edge_mcp.repository.signatures import Signatures
from edge_mcp.repository.store import derived, scan

MANIFEST = """
[model]
name = "{name}"
version = "1.0.0"
file = "m.onnx"
[tool]
name = "{tool}"
"""


def model(folder: Path, name: str, tool: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "model.toml").write_text(MANIFEST.format(name=name, tool=tool))
    (folder / name / "m.onnx").write_bytes(name.encode())


def test_models_are_listed_by_tool_whatever_their_folders_are_called(tmp_path: Path) -> None:
    model(tmp_path, "a", "z_tool")
    model(tmp_path, "z", "a_tool")
    (tmp_path / "m-tool.tflite").write_bytes(b"x")
    found = scan([tmp_path])
    assert [entry.manifest.tool.name for entry in found.entries] == ["a_tool", "m-tool", "z_tool"]
    assert [entry.bare for entry in found.entries] == [False, True, False]
    assert found.problems == ()


def test_what_is_no_model_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / ".hidden.onnx").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.onnx").mkdir()
    assert scan([tmp_path]).entries == ()


def test_of_models_with_one_name_in_two_folders_the_first_counts_and_that_is_no_problem(tmp_path: Path) -> None:
    model(tmp_path / "one", "a", "tool")
    model(tmp_path / "two", "a", "other")
    found = scan([tmp_path / "one", tmp_path / "two"])
    assert [(entry.repository, entry.manifest.tool.name) for entry in found.entries] == [(tmp_path / "one", "tool")]
    assert found.problems == ()


def test_of_two_tools_with_one_name_the_first_counts_and_the_other_is_a_problem(tmp_path: Path) -> None:
    model(tmp_path / "one", "a", "tool")
    model(tmp_path / "two", "b", "tool")
    (tmp_path / "two" / "b.onnx").write_bytes(b"x")
    found = scan([tmp_path / "one", tmp_path / "two"])
    assert [entry.manifest.model.name for entry in found.entries] == ["a"]
    assert len(found.problems) == 2
    assert found.problems[0].endswith("Rename one of them")
    assert found.problems[1] == "b: left out, because a has the tool tool already. Give one another tool.name"


def test_a_wrong_manifest_is_a_problem_and_the_others_are_found(tmp_path: Path) -> None:
    model(tmp_path, "a", "tool")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.toml").write_text("nonsense")
    found = scan([tmp_path])
    assert len(found.entries) == 1
    assert "not valid TOML" in found.problems[0]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        scan([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("file", "tool", "name"),
    [
        ("mlp_int8.onnx", "mlp_int8", "mlp-int8"),
        ("My Model (v2).onnx", "My_Model_v2", "my-model-v2"),
        ("日本.tflite", "model", "model"),
        ("x" * 100 + ".onnx", "x" * 64, "x" * 100),
    ],
)
def test_a_bare_file_gives_a_valid_tool_name(file: str, tool: str, name: str) -> None:
    manifest = derived(Path("/models") / file)
    assert (manifest.tool.name, manifest.model.name, manifest.model.file) == (tool, name, file)


def test_one_network_in_both_formats_is_two_tools(tmp_path: Path) -> None:
    for name in ("a_b.onnx", "a_b.tflite", "c.tflite", f"{'x' * 70}.onnx", f"{'x' * 70}.tflite"):
        (tmp_path / name).write_bytes(b"")
    files = sorted(tmp_path.iterdir())
    tools = [derived(file).tool.name for file in files]
    assert tools == ["a_b", "a_b_tflite", "c", "x" * 64, "x" * 57 + "_tflite"]
    assert [derived(file).model.name for file in files[:3]] == ["a-b", "a-b-tflite", "c"]
    # A copy of it, which has no twin beside, goes by the name it was found by
    assert derived(Path("/away/a_b.tflite"), "a-b-tflite") == derived(tmp_path / "a_b.tflite")


def test_a_signature_is_forgotten_when_its_file_changes(tmp_path: Path) -> None:
    file, signatures = tmp_path / "m.onnx", Signatures(tmp_path / "signatures")
    file.write_bytes(b"one")
    described = Described(Signature((), ()), "0" * 64)
    assert signatures.get(file) is None
    signatures.put(file, described)
    assert signatures.get(file) == described
    file.write_bytes(b"another")
    assert signatures.get(file) is None


def test_signatures_that_cannot_be_kept_or_read_cost_nothing_but_time(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"one")
    (tmp_path / "taken").write_text("a file where the folder should be")
    signatures = Signatures(tmp_path / "taken")
    signatures.put(file, Described(Signature((), ()), ""))
    assert signatures.get(file) is None


def test_no_model_has_the_name_of_the_servers_own_tool(tmp_path: Path) -> None:
    assert derived(Path("/models/device_status.onnx")).tool.name == "device_status_model"
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "model.toml").write_text(
        '[model]\nname = "one"\nversion = "1.0.0"\nfile = "one.onnx"\n[tool]\nname = "device_status"\ndescription = "."\n'
    )
    store = scan([tmp_path])
    assert store.entries == ()
    (problem,) = store.problems
    assert "tool.name 'device_status' is not possible. The server has a tool of this name" in problem
