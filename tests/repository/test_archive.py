"""Models in one file, and files that only look like it."""

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_mcp.errors import ModelError
from edge_mcp.repository.archive import INDEX_NAME, pack, unpack
from edge_mcp.repository.store import look
from tests.cli.command import ROOT
from tests.repository.power_loss import write_model


def packed(folder: Path) -> bytes:
    write_model(folder / "net", "1.0.0")
    (folder / "bare.onnx").write_bytes(b"x")
    target = io.BytesIO()
    pack(look([folder]).entries, target)
    return target.getvalue()


def index(**changes: Any) -> dict[str, Any]:
    model = {"version": "1.0.0", "files": {"net.onnx": hashlib.sha256(b"x").hexdigest()}, **changes}
    return {"models": {"net": model}, "format": 1}


def archive(written: Any, *members: tuple[Any, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as file:
        file.writestr(INDEX_NAME, written if isinstance(written, bytes) else json.dumps(written))
        for info, content in members:
            file.writestr(info, content)
    return target.getvalue()


def refusal(tmp_path: Path, content: bytes) -> str:
    """Why it is refused; nothing is left outside of the folder, and nothing large in it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ModelError) as refused:
        unpack(tmp_path / "a.zip", tmp_path / "work")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "work"]
    assert str(refused.value).isprintable()
    return str(refused.value)


def test_what_was_packed_is_unpacked_and_packing_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    content = packed(tmp_path / "models")
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "work").mkdir()
    found = unpack(tmp_path / "a.zip", tmp_path / "work")
    assert (found.models["net"].version, found.models["bare"].bare_file) == ("1.0.0", "bare.onnx")
    files = {str(path.relative_to(tmp_path / "work")) for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert files == {"net/net.onnx", "net/labels.txt", "net/model.toml", "bare/bare.onnx"}
    again = io.BytesIO()
    pack(look([tmp_path / "work"]).entries, again)
    (tmp_path / "other").mkdir()
    assert packed(tmp_path / "other") == content


def test_a_packed_model_is_as_it_was(tmp_path: Path) -> None:
    entries = [entry for entry in look([ROOT / "models"]).entries if entry.manifest.model.name == "language-detector"]
    with (tmp_path / "a.zip").open("wb") as file:
        pack(entries, file)
    unpack(tmp_path / "a.zip", tmp_path)
    for path in (ROOT / "models/language-detector").iterdir():
        assert (tmp_path / "language-detector" / path.name).read_bytes() == path.read_bytes()


def test_compressed_files_are_taken_too(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive(index(), ("net/net.onnx", b"x"), compression=zipfile.ZIP_DEFLATED))
    unpack(tmp_path / "a.zip", tmp_path)
    assert (tmp_path / "net/net.onnx").read_bytes() == b"x"


@pytest.mark.parametrize("length", [0, 1, 21, 22, 100, -1, -30, -200])
def test_a_truncated_one_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "models").mkdir()
    content = packed(tmp_path / "models")
    (tmp_path / "else").mkdir()
    assert "is damaged, or no archive of models" in refusal(tmp_path / "else", content[:length])


def test_each_byte_that_is_changed_is_noticed_or_harmless(tmp_path: Path) -> None:
    content = bytearray(archive(index(), ("net/net.onnx", b"x")))
    for place in range(len(content)):
        changed = bytes(content[:place]) + bytes([content[place] ^ 0x41]) + bytes(content[place + 1 :])
        (tmp_path / "a.zip").write_bytes(changed)
        work = tmp_path / str(place)
        work.mkdir()
        try:
            unpack(tmp_path / "a.zip", work)
        except ModelError:
            continue
        assert [path.name for path in work.iterdir()] == ["net"]
        assert [path.read_bytes() for path in (work / "net").iterdir()] == [b"x"]


def linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("net/net.onnx")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive({"models": {}}), "it has 0 models"),
        (archive(b"[" * 100_000), "cannot be read"),
        (archive(b"\xff"), "cannot be read"),
        (archive({**index(), "format": 2}), "its format 2 is not known"),
        (archive({**index(), "more": 1}), "unknown field"),
        (archive(index(), ("net/net.onnx", b"y")), "net/net.onnx is not what was packed"),
        (archive(index()), "its files are not those of its index: 'net/net.onnx'"),
        (archive(index(), ("net/net.onnx", b"x"), ("net/more", b"x")), "its files are not those of its index: 'net/more'"),
        (archive(index(), ("../net.onnx", b"x")), "its files are not those of its index: '../net.onnx'"),
        (archive(index(files={"../x": "0"}), ("net/../x", b"x")), "net has a file called '../x'"),
        (archive(index(files={"/x": "0"}), ("net//x", b"x")), "net has a file called '/x'"),
        (archive(index(files={"a\nb": "0"}), ("net/a\nb", b"x")), r"net has a file called 'a\nb'"),
        (archive(index(files={}), ("net/", b"")), "net has 0 files"),
        (archive(index(files={str(n): "0" for n in range(257)})), "net has 257 files"),
        (archive(index(bare_file="other.onnx"), ("net/net.onnx", b"x")), "net has no file 'other.onnx'"),
        (archive({"models": {"..": index()["models"]["net"]}, "format": 1}), "a model cannot be called '..'"),
        (archive(index(), (linked(), b"x")), "'net/net.onnx' is no plain file"),
        (archive({"models": {f"m{n}": index()["models"]["net"] for n in range(257)}}), "it has 257 models"),
    ],
)
def test_what_is_no_such_archive_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path, content)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = archive(index(), ("net/net.onnx", b"x"), ("net/net.onnx", b"y"))
    assert "it has two files of one name" in refusal(tmp_path, content)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    content = bytearray(archive(index(), ("net/net.onnx", bytes(10_000_000)), compression=zipfile.ZIP_DEFLATED))
    assert "is not what was packed" in refusal(tmp_path, bytes(content))
    entry = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, entry + 24, 0xFFFFFFF0)  # it says that it is 4 GiB
    (tmp_path / "else").mkdir()
    assert "is damaged" in refusal(tmp_path / "else", bytes(content))


def test_more_than_is_said_is_not_unpacked(tmp_path: Path) -> None:
    content = bytearray(archive(index(), ("net/net.onnx", bytes(10_000_000)), compression=zipfile.ZIP_DEFLATED))
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, 1000)  # it says that it is 1000 bytes
    assert "is damaged" in refusal(tmp_path, bytes(content))
    assert (tmp_path / "work/net/net.onnx").stat().st_size <= 1000


@pytest.mark.parametrize("change", [lambda end: end[:12] + b"\xff\xff\xff\xff" + end[16:], lambda end: end + b"a comment"])
def test_a_list_of_files_that_may_be_endless_is_not_read(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    content = archive(index(), ("net/net.onnx", b"x"))
    assert "is damaged, or no archive of models" in refusal(tmp_path, content[:-22] + change(content[-22:]))


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(ModelError, match="plain file"):
            unpack(path, tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_what_would_be_unpacked_all_at_once_is_refused(tmp_path: Path, compression: int) -> None:
    content = archive(json.dumps(index()).encode(), ("net/net.onnx", b"x"), compression=compression)
    assert "packed in an unusual way" in refusal(tmp_path, content)
