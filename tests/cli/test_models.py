"""`edge-mcp models`, on the models that ship and on folders of one's own."""

import json
import shutil
from pathlib import Path

from edge_mcp.engine.messages import Described, Signature, TensorSpec
from edge_mcp.repository.signatures import Signatures
from tests.cli.command import FIXTURES, ROOT, edge_mcp
from tests.processes import SHIPPED


def bare(folder: Path) -> Path:
    shutil.copy(FIXTURES / "models" / "mlp_int8.onnx", folder)
    return folder / "mlp_int8.onnx"


def test_the_models_that_ship_are_listed_with_licence_size_and_file() -> None:
    ran = edge_mcp("models", EDGE_MCP_MODELS=str(ROOT / "models"))
    header, *rows = [line.split() for line in ran.out.splitlines()]
    assert header == ["tool", "model", "version", "kept", "licence", "size", "from", "file"]
    assert [row[0] for row in rows] == SHIPPED
    assert all(len(list((ROOT / "models").glob(f"*/{row[-1]}"))) == 1 for row in rows)
    assert (ran.status, ran.err) == (0, "")


def test_the_list_as_json_has_sizes_in_bytes() -> None:
    ran = edge_mcp("models", "list", "--json", "--models", str(ROOT / "models"))
    listed = json.loads(ran.out)
    assert [model["tool"] for model in listed] == SHIPPED
    pipeline = {model["tool"]: model for model in listed}["read_text"]
    assert pipeline["size"] == sum(file.stat().st_size for file in (ROOT / "models/text-reader").glob("*.onnx"))
    assert all(model["size"] == Path(model["file"]).stat().st_size for model in listed if model is not pipeline)


def test_a_pipeline_is_shown_with_its_steps_and_all_its_files() -> None:
    shown = edge_mcp("models", "show", "text-reader", "--models", str(ROOT / "models")).out
    assert shown.count("[[steps]]") == shown.count("[[file]]") == shown.count('digest = "as in the manifest"') == 2
    assert "[input]" not in shown


def test_a_model_is_shown_by_its_own_name_and_by_its_tools() -> None:
    shown = edge_mcp("models", "show", "object-detector", "--models", str(ROOT / "models"))
    assert shown.out == edge_mcp("models", "show", "detect_objects", "--models", str(ROOT / "models")).out
    for part in ('name = "object-detector"', 'decoder = "ssd"', 'digest = "as in the manifest"', "image (string, required): "):
        assert part in shown.out


def test_a_model_shown_as_json_has_its_schemas() -> None:
    shown = json.loads(edge_mcp("models", "show", "face-detector", "--json", "--models", str(ROOT / "models")).out)
    assert shown["model"]["license"] == "Apache-2.0"
    assert shown["inputSchema"]["required"] == ["image"]
    assert "faces" in shown["outputSchema"]["properties"]
    assert shown["file"]["sha256"] == shown["model"]["sha256"]


def test_a_file_that_is_not_the_one_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "face-detector", tmp_path / "face-detector")
    (tmp_path / "face-detector" / "face_short_range_fp16.tflite").write_bytes(b"another")
    assert 'digest = "NOT as in the manifest"' in edge_mcp("models", "show", "face-detector", "--models", str(tmp_path)).out


def test_a_file_that_is_missing_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "face-detector", tmp_path / "face-detector")
    (tmp_path / "face-detector" / "face_short_range_fp16.tflite").unlink()
    assert "missing" in edge_mcp("models", "--models", str(tmp_path)).out
    assert "cannot be read: No such file" in edge_mcp("models", "show", "face-detector", "--models", str(tmp_path)).out


def test_the_arguments_of_a_bare_file_are_not_known_before_it_was_read(tmp_path: Path) -> None:
    bare(tmp_path)
    shown = edge_mcp("models", "show", "mlp_int8", "--models", str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert shown.status == 0
    assert "They stand in the model file" in shown.out


def test_the_arguments_of_a_bare_file_are_remembered(tmp_path: Path) -> None:
    file = bare(tmp_path)
    signature = Signature((TensorSpec("pixels", "FP32", (1, 4)),), ())
    Signatures(tmp_path / "cache" / "edge-mcp" / "signatures").put(file, Described(signature, "0" * 64))
    shown = edge_mcp("models", "show", "mlp-int8", "--models", str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "pixels (tensor, required): FP32 tensor of shape [1, 4]" in shown.out


def test_what_is_wrong_with_one_model_is_told_and_the_others_are_listed(tmp_path: Path) -> None:
    bare(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.toml").write_text("[model]\nnam = 1\n")
    ran = edge_mcp("models", "--models", str(tmp_path))
    assert ran.status == 0
    assert "mlp_int8" in ran.out
    assert "Did you mean 'name'?" in ran.err or "broken" in ran.err
    assert ran.err.count("\n") == 1


def test_if_every_model_is_wrong_the_status_is_1(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.toml").write_text("[model]\n")
    ran = edge_mcp("models", "--models", str(tmp_path))
    assert (ran.status, ran.out) == (1, "")


def test_a_folder_without_models_is_said_to_be_one(tmp_path: Path) -> None:
    ran = edge_mcp("models", "--models", str(tmp_path))
    assert (ran.status, ran.out, ran.err) == (0, "", f"edge-mcp: there are no models in {tmp_path}\n")


def test_a_folder_that_is_not_there_is_one_line() -> None:
    assert edge_mcp("models", "--models", "/no/such").failed().startswith("the model folder /no/such cannot be read")


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    error = edge_mcp("models", "show", "objects-detector", "--models", str(ROOT / "models")).failed()
    assert error.startswith("there is no model 'objects-detector'. Did you mean 'object-detector'? There are: ")


def test_what_looks_like_a_model_and_is_none_is_told(tmp_path: Path) -> None:
    net = FIXTURES / "models" / "mlp_int8.onnx"
    (tmp_path / "bare-folder").mkdir()
    shutil.copy(net, tmp_path / "bare-folder")
    shutil.copy(net, tmp_path / "LOUD.ONNX")
    file = tmp_path / "bare-folder" / net.name
    assert edge_mcp("models", "--models", str(tmp_path)).err.splitlines() == [
        f"edge-mcp: {tmp_path}/LOUD.ONNX is overlooked. Write its ending in small letters: .onnx",
        f"edge-mcp: {file.parent} has no model.toml. Write one with edge-mcp models init {file} --out {file.parent}",
        f"edge-mcp: there are no models in {tmp_path}",
    ]
    error = edge_mcp("models", "check", "bare-folder", "--models", str(tmp_path)).failed()
    assert error.startswith(f"bare-folder is left out: {file.parent} has no model.toml.")
    assert edge_mcp("models", "init", str(file), "--out", str(file.parent)).status == 0
    assert edge_mcp("models", "check", "bare-folder", "--models", str(tmp_path)).status == 0


def test_a_model_is_no_folder_of_models(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "language-detector", tmp_path / "language-detector")
    ran = edge_mcp("models", "--models", str(tmp_path / "language-detector"))
    assert "is no folder of models but a model. Name the folder that it lies in" in ran.err


def test_of_two_models_with_one_tool_the_second_says_which_is_the_first(tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(ROOT / "models" / "language-detector", tmp_path / name)
        manifest = tmp_path / name / "model.toml"
        manifest.write_text(manifest.read_text("utf-8").replace('"language-detector"', f'"{name}"'), "utf-8")
    error = "second: left out, because first has the tool detect_language already. Give one another tool.name"
    assert edge_mcp("models", "--models", str(tmp_path)).err == f"edge-mcp: {error}\n"
    said = edge_mcp("models", "check", "second", "--models", str(tmp_path)).failed()
    assert said == f"second is left out: {error}"
