"""What is dropped in is copied, verified and kept; which version is active; and what is refused."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mcp.config import shipped_models
from edge_mcp.errors import ConfigError, EdgeError, ManifestError, ModelError
from edge_mcp.repository import staging
from edge_mcp.repository.sources import Dropped
from edge_mcp.repository.store import look, scan
from edge_mcp.repository.versions import DowngradeError, SourceChanged, Versions
from tests import onnx_files
from tests.cli.command import ROOT
from tests.repository.power_loss import write_model
from tests.repository.test_unreadable import edge_mcp


def drop(repository: Path, version: str) -> Dropped:
    """Write a version of the model `net` over what is there; the change of it."""
    write_model(repository / "net", version)
    return Versions(repository).candidates()[0]


def take(repository: Path, version: str, allow_downgrade: bool = False) -> str:
    """Drop in, stage and commit; its key."""
    versions = Versions(repository)
    return versions.commit(versions.stage(drop(repository, version)), allow_downgrade).key.partition("-")[0]


def served(repository: Path) -> list[str]:
    return [entry.manifest.model.version for entry in Versions(repository).entries()[0]]


def test_what_is_dropped_in_is_served_from_a_copy(tmp_path: Path) -> None:
    write_model(tmp_path / "net", "1.0.0")
    (entry,) = scan([tmp_path]).entries
    assert entry.folder.parent == tmp_path / ".edge-mcp/versions/net"
    assert entry.key == f"net@1.0.0-{entry.digest[:8]}" == f"net@{entry.folder.name}"
    assert sorted(path.name for path in entry.folder.iterdir()) == ["labels.txt", "model.toml", "net.onnx"]
    (tmp_path / "net/net.onnx").write_bytes(b"overwritten in place")
    assert scan([tmp_path]).entries == (entry,)
    assert entry.file.read_bytes() == b"1.0.0" * 1000


def test_every_file_is_pinned_by_its_digest(tmp_path: Path) -> None:
    (tmp_path / "bare.onnx").write_bytes(b"x")
    (entry,) = scan([tmp_path]).entries
    assert entry.bare
    assert entry.manifest.model.sha256 == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "net", "1.0.0")
    (tmp_path / "bare.onnx").write_bytes(b"x")
    before = scan([tmp_path])

    def fail(*_: object) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr(staging, "_copied", fail)
    assert scan([tmp_path]) == before
    assert Versions(tmp_path).candidates() == []


def test_a_change_of_a_known_model_waits_to_be_proven(tmp_path: Path) -> None:
    write_model(tmp_path / "net", "1.0.0")
    scan([tmp_path])
    change = drop(tmp_path, "2.0.0")
    assert (change.name, change.path, change.bare) == ("net", tmp_path / "net", False)
    assert served(tmp_path) == ["1.0.0"]
    versions = Versions(tmp_path)
    staged = versions.stage(change)
    assert staged.entry.file.read_bytes() == b"2.0.0" * 1000
    entry = versions.commit(staged)
    assert entry.key == staged.entry.key
    assert served(tmp_path) == ["2.0.0"]
    assert versions.candidates() == []


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    write_model(tmp_path / "net", "1.0.0")
    assert [entry.folder for entry in look([tmp_path]).entries] == [tmp_path / "net"]
    assert scan([tmp_path], adopt=False).entries == ()
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_four_versions_are_kept_and_the_one_before_always(tmp_path: Path) -> None:
    for number in range(1, 8):
        take(tmp_path, f"{number}.0.0")
    model = Versions(tmp_path).state().model("net")
    assert [version.version for version in model.versions] == ["7.0.0", "6.0.0", "5.0.0", "4.0.0"]
    assert len(list((tmp_path / ".edge-mcp/versions/net").iterdir())) == 4
    take(tmp_path, "7.0.0")
    write_model(tmp_path / "net", "7.0.0")
    (tmp_path / "net/labels.txt").write_text("others")
    versions = Versions(tmp_path)
    versions.commit(versions.stage(versions.candidates()[0]))
    kept = [version.version for version in versions.state().model("net").versions]
    assert kept == ["7.0.0", "7.0.0", "6.0.0", "5.0.0"]  # the other 7.0.0 was active until now
    take(tmp_path, "8.0.0")
    assert [version.version for version in versions.state().model("net").versions] == ["8.0.0", "7.0.0", "6.0.0", "5.0.0"]


def test_going_below_the_highest_version_has_to_be_meant(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    take(tmp_path, "2.0.0")
    with pytest.raises(DowngradeError, match=r"net 1\.5\.0 is below 2\.0\.0.* models use net 1\.5\.0 --allow-downgrade"):
        take(tmp_path, "1.5.0")
    versions = Versions(tmp_path)
    with pytest.raises(DowngradeError):
        versions.use("net", "1.0.0")
    assert versions.use("net", "1.0.0", allow_downgrade=True).manifest.model.version == "1.0.0"
    assert versions.state().model("net").highest == "2.0.0"
    with pytest.raises(DowngradeError):
        take(tmp_path, "1.6.0")
    assert versions.use("net", "1.6.0", allow_downgrade=True).manifest.model.version == "1.6.0"  # as it was dropped in
    assert take(tmp_path, "2.0.0") == "net@2.0.0"


def test_the_highest_version_is_remembered_when_the_model_is_gone(tmp_path: Path) -> None:
    take(tmp_path, "2.0.0")
    Versions(tmp_path).remove("net")
    assert not (tmp_path / "net").exists()
    assert served(tmp_path) == []
    write_model(tmp_path / "net", "1.0.0")
    entries, problems = Versions(tmp_path).entries()
    assert entries == []
    assert "below 2.0.0" in problems[0]


def test_a_model_goes_with_what_was_dropped_in(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    (tmp_path / "net").rename(tmp_path.parent / f"{tmp_path.name}-away")
    assert Versions(tmp_path).entries(adopt=False)[0] == []
    assert served(tmp_path) == []
    assert list((tmp_path / ".edge-mcp/versions").iterdir()) == []


def test_what_was_added_stays_until_it_is_removed(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    write_model(tmp_path / "elsewhere", "1.0.0")
    versions = Versions(repository)
    versions.commit(versions.stage(Dropped("net", tmp_path / "elsewhere", "", False)))
    assert served(repository) == ["1.0.0"]
    assert versions.remove("net") == []
    assert served(repository) == []
    assert (tmp_path / "elsewhere/model.toml").exists()


def test_one_version_is_removed_unless_it_is_active(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    take(tmp_path, "2.0.0")
    versions = Versions(tmp_path)
    with pytest.raises(ConfigError, match=r"net 2\.0\.0 is the active version"):
        versions.remove("net", "2.0.0")
    versions.remove("net", "1.0.0")
    assert [path.name[:5] for path in (tmp_path / ".edge-mcp/versions/net").iterdir()] == ["2.0.0"]
    with pytest.raises(ConfigError, match=r"no version 1\.0\.0 of net is kept"):
        versions.remove("net", "1.0.0")
    with pytest.raises(ConfigError, match="there is no model 'other'"):
        versions.remove("other")


def test_what_is_refused_is_told_until_it_changes(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    versions = Versions(tmp_path)
    versions.refuse(drop(tmp_path, "2.0.0"), "it does not load")
    assert versions.candidates() == []
    assert [served(tmp_path), versions.entries()[1]] == [["1.0.0"], ["it does not load"]]
    assert drop(tmp_path, "3.0.0").name == "net"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"format": 2}', b'{"models": {"../x": {}}}', b"\xff" * 50, b"[" * 9999]
)
def test_a_damaged_state_is_kept_aside_and_made_anew(tmp_path: Path, content: bytes) -> None:
    take(tmp_path, "1.0.0")
    take(tmp_path, "2.0.0")
    (tmp_path / ".edge-mcp/state.json").write_bytes(content)
    assert served(tmp_path) == ["2.0.0"]
    assert (tmp_path / ".edge-mcp/state.json.broken").read_bytes() == content
    model = Versions(tmp_path).state().model("net")
    assert (model.highest, [version.version for version in model.versions]) == ("2.0.0", ["2.0.0", "1.0.0"])


def test_a_damaged_version_is_not_taken_over_into_a_new_state(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    take(tmp_path, "2.0.0")
    (folder,) = (tmp_path / ".edge-mcp/versions/net").glob("2.0.0-*")
    (folder / "net.onnx").write_bytes(b"other")
    (tmp_path / ".edge-mcp/state.json").write_bytes(b"torn")
    assert [version.version for version in Versions(tmp_path).state().model("net").versions] == ["1.0.0"]


def test_an_active_version_that_is_damaged_is_taken_in_again(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    (folder,) = (tmp_path / ".edge-mcp/versions/net").iterdir()
    (folder / "net.onnx").unlink()
    (entry,) = scan([tmp_path]).entries
    assert entry.file.read_bytes() == b"1.0.0" * 1000


def test_a_writer_waits_for_another_and_says_so_when_it_does_not_finish(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    lock = os.open(tmp_path / ".edge-mcp/lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match=r"another edge-mcp has been writing in .* for 0\.05 s"):
        Versions(tmp_path, wait_s=0.05).use("net", "1.0.0")
    os.close(lock)


def test_copies_of_others_are_left_alone_while_they_live(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    versions = Versions(tmp_path)
    staged = versions.stage(drop(tmp_path, "2.0.0"))
    (tmp_path / ".edge-mcp/staging/1-0").mkdir()
    (tmp_path / ".edge-mcp/staging/a-file").touch()
    versions.collect()
    assert list((tmp_path / ".edge-mcp/staging").iterdir()) == [staged.folder]
    staged.discard()
    assert list((tmp_path / ".edge-mcp/staging").iterdir()) == []


def test_a_source_that_is_written_to_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(tmp_path, "1.0.0")
    change = drop(tmp_path, "2.0.0")
    copied = staging._copied

    def slow(path: Path, *rest: object) -> object:
        (tmp_path / "net/labels.txt").write_text("still being written")
        return copied(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "_copied", slow)
    with pytest.raises(SourceChanged, match="was written to while it was copied"):
        Versions(tmp_path).stage(change)
    assert list((tmp_path / ".edge-mcp/staging").iterdir()) == []


def link_out(folder: Path) -> None:
    (folder.parent.parent / "secret.txt").write_text("secret")
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").symlink_to("../../secret.txt")


def link_model(folder: Path) -> None:
    (folder / "net.onnx").rename(folder / "real.onnx")
    (folder / "net.onnx").symlink_to("real.onnx")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def listen(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{here}/s")
        os.close(here)


def odd_name(folder: Path) -> None:
    (folder / "a\nb\x1b[2J").touch()


def no_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).touch()


def many(folder: Path) -> None:
    for number in range(staging.MAX_FILES):
        (folder / f"{number}").touch()


def no_model(folder: Path) -> None:
    (folder / "net.onnx").unlink()


def half_copied(folder: Path) -> None:
    toml = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text(toml.replace("[tool]", f'sha256 = "{"0" * 64}"\n[tool]'))


def other_name(folder: Path) -> None:
    (folder / "model.toml").write_text((folder / "model.toml").read_text().replace('name = "net"', 'name = "ten"', 1))


def no_version(folder: Path) -> None:
    (folder / "model.toml").write_text((folder / "model.toml").read_text().replace("2.0.0", "2.0"))


def data_elsewhere(folder: Path) -> None:
    graph = onnx_files.graph([], [], [], initializers=[onnx_files.external_tensor("w", (4,), "../../../etc/passwd")])
    (folder / "net.onnx").write_bytes(onnx_files.model(graph))


def data_missing(folder: Path) -> None:
    graph = onnx_files.graph([], [], [], initializers=[onnx_files.external_tensor("w", (4,), "weights.bin")])
    (folder / "net.onnx").write_bytes(onnx_files.model(graph))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (link_out, "labels.txt is a symbolic link. Copy here what it leads to"),
        (link_model, "net.onnx is a symbolic link. Copy here what it leads to"),
        (pipe, "pipe is no plain file"),
        (listen, "s is no plain file"),
        (odd_name, r"a file there is called 'a\nb\x1b[2J'"),
        (no_text, "Give it a name that can be printed"),
        (many, "has more than 256 files"),
        (no_model, "the model file net.onnx is not there"),
        (half_copied, "but model.toml says 000"),
        (other_name, "model.name is 'ten', but its folder is 'net'"),
        (no_version, "model.version '2.0' is not possible"),
        (data_elsewhere, "keeps weights in '../../../etc/passwd', which is no plain file name"),
        (data_missing, "keeps weights in weights.bin, which is not there"),
    ],
)
def test_what_cannot_be_served_is_refused_and_the_version_before_stays(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    take(repository, "1.0.0")
    write_model(repository / "net", "2.0.0")
    spoil(repository / "net")
    versions = Versions(repository)
    (change,) = versions.candidates()
    with pytest.raises(EdgeError) as refused:
        versions.stage(change)
    assert isinstance(refused.value, ModelError | ManifestError)
    assert reason in str(refused.value)
    assert str(refused.value).isprintable()
    assert list((repository / ".edge-mcp/staging").iterdir()) == []
    assert served(repository) == ["1.0.0"]


def test_folders_and_hidden_files_in_a_models_folder_do_not_count(tmp_path: Path) -> None:
    write_model(tmp_path / "net", "1.0.0")
    (tmp_path / "net/deep/er").mkdir(parents=True)
    (tmp_path / "net/deep/link").symlink_to("/etc")
    (tmp_path / "net/.git").symlink_to("/etc")
    (entry,) = scan([tmp_path]).entries
    assert sorted(path.name for path in entry.folder.iterdir()) == ["labels.txt", "model.toml", "net.onnx"]


def test_a_link_in_a_folder_of_models_is_a_problem(tmp_path: Path) -> None:
    write_model(tmp_path / "elsewhere", "1.0.0")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/net").symlink_to(tmp_path / "elsewhere")
    found = scan([tmp_path / "models"])
    assert (found.entries, len(found.problems)) == ((), 1)
    assert "is a symbolic link" in found.problems[0]


def test_a_folder_of_versions_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models/.edge-mcp").symlink_to(tmp_path / "elsewhere")
    write_model(tmp_path / "models/net", "1.0.0")
    assert [entry.folder for entry in scan([tmp_path / "models"]).entries] == [tmp_path / "models/net"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_bare_files_weights_come_with_it(tmp_path: Path) -> None:
    graph = onnx_files.graph([], [], [], initializers=[onnx_files.external_tensor("w", (4,), "weights.bin")])
    (tmp_path / "big.onnx").write_bytes(onnx_files.model(graph))
    found = scan([tmp_path])
    assert found.entries == ()
    assert "weights.bin" in found.problems[0]
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    (entry,) = scan([tmp_path]).entries
    assert sorted(path.name for path in entry.folder.iterdir()) == ["big.onnx", "weights.bin"]
    (tmp_path / "weights.bin").write_bytes(bytes(17))
    assert [change.name for change in Versions(tmp_path).candidates()] == ["big"]


def test_what_is_not_to_be_written_is_served_from_where_it_lies(tmp_path: Path) -> None:
    assert Versions.of(tmp_path / "nowhere") is None
    assert Versions.of(shipped_models()) is None
    write_model(tmp_path / "net", "1.0.0")
    tmp_path.chmod(0o555)
    listed = edge_mcp("models", "list", "--json", "--models", str(tmp_path))
    tmp_path.chmod(0o755)
    (model,) = json.loads(listed.out)
    assert (model["from"], model["file"]) == ("in place", str(tmp_path / "net/net.onnx"))


def test_the_state_is_readable_for_people(tmp_path: Path) -> None:
    take(tmp_path, "1.0.0")
    state = json.loads((tmp_path / ".edge-mcp/state.json").read_text())
    assert state["models"]["net"]["highest"] == "1.0.0"
    assert (tmp_path / ".edge-mcp/.gitignore").read_text() == "*\n"


def test_a_bare_file_is_removed_with_its_weights_but_not_those_of_others(tmp_path: Path) -> None:
    for name, files in {"one": ["shared.bin", "own.bin"], "two": ["shared.bin"]}.items():
        tensors = [onnx_files.external_tensor(file, (4,), file) for file in files]
        (tmp_path / f"{name}.onnx").write_bytes(onnx_files.model(onnx_files.graph([], [], [], tensors)))
    for name in ("shared.bin", "own.bin"):
        (tmp_path / name).write_bytes(bytes(16))
    scan([tmp_path])
    assert Versions(tmp_path).remove("one") == [tmp_path / "one.onnx", tmp_path / "own.bin"]
    assert [entry.manifest.model.name for entry in scan([tmp_path]).entries] == ["two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".edge-mcp", "shared.bin", "two.onnx"]


def test_links_out_of_a_folder_that_is_only_read_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    write_model(tmp_path / "secret", "1.0.0")
    write_model(folder / "net", "1.0.0")
    (folder / "linked").symlink_to(tmp_path / "secret")
    (folder / "linked.onnx").symlink_to(tmp_path / "secret/net.onnx")
    folder.chmod(0o555)
    listed = edge_mcp("models", "list", "--json", "--models", str(folder))
    assert [model["from"] for model in json.loads(listed.out)] == ["in place"]
    assert listed.err.count("is a symbolic link that leads out of") == 2
    (folder / "net/labels.txt").unlink()
    (folder / "net/labels.txt").symlink_to(tmp_path / "secret/labels.txt")
    listed = edge_mcp("models", "list", "--json", "--models", str(folder))
    folder.chmod(0o755)
    assert (listed.status, json.loads(listed.out)) == (1, [])


def test_no_room_is_a_problem_of_the_new_model_alone(tmp_path: Path) -> None:
    write_model(tmp_path / "net", "1.0.0")
    scan([tmp_path])
    write_model(tmp_path / "big", "1.0.0")
    (tmp_path / "big/model.toml").write_text((tmp_path / "big/model.toml").read_text().replace('"net"', '"big"'))
    (tmp_path / "big/labels.txt").write_bytes(bytes(1_000_000))
    code = """
import sys
from pathlib import Path
from edge_mcp.repository.store import scan
found = scan([Path(sys.argv[1])])
print([entry.manifest.model.name for entry in found.entries], *found.problems)
"""
    limited = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh", sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    problem = f"{tmp_path}/big: {tmp_path}/.edge-mcp cannot be written: File too large. Make room, or let this user write"
    assert ran.stdout == f"['net'] {problem}\n"
    assert [entry.manifest.model.name for entry in scan([tmp_path]).entries] == ["big", "net"]
