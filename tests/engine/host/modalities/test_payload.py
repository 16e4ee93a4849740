"""Bytes arrive as base64, data: URIs and files, and no file outside the roots can be told from one that is not there."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mcp.engine.host.modalities import payload
from edge_mcp.engine.host.modalities.payload import decode_base64, read_payload
from edge_mcp.errors import ArgumentError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"the photo")
    (tmp_path / "secret.txt").write_bytes(b"the secret")
    return folder


def refusal(text: str, *roots: Path) -> str:
    with pytest.raises(ArgumentError) as caught:
        read_payload(text, roots)
    return str(caught.value)


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.sampled_from(["", "\n", " ", "\r\n\t"]))
def test_every_spelling_of_base64(data: bytes, url_safe: bool, padded: bool, space: str) -> None:
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    text = space.join(text if padded else text.rstrip("="))
    assert read_payload(text, []) == data
    assert read_payload(f"data:application/octet-stream;base64,{text}", []) == data


@given(st.text(max_size=300))
def test_any_text_gives_bytes_or_a_clear_refusal(text: str) -> None:
    try:
        assert isinstance(read_payload(text, []), bytes)
    except ArgumentError as error:
        assert len(str(error)) < 400


def test_data_uris() -> None:
    assert read_payload("data:,hello%20world", []) == b"hello world"
    assert read_payload("data:text/plain;charset=utf-8;BASE64,aGk%3D", []) == b"hi"
    assert "no comma" in refusal("data:image/png;base64")
    assert "not valid base64" in refusal("data:image/png;base64,?")


@pytest.mark.parametrize("text", ["http://device/cat.jpg", "HTTPS://device/cat.jpg"])
def test_nothing_is_fetched(text: str, root: Path) -> None:
    assert "fetches nothing from the network" in refusal(text, root)


def test_other_schemes_are_named() -> None:
    assert "'ftp'" in refusal("ftp://device/cat.jpg")


def test_files_under_a_root(root: Path) -> None:
    for text in ("photo.jpg", "./photo.jpg", str(root / "photo.jpg"), f"file://{root}/photo.jpg", f"file:{root}/photo.jpg"):
        assert read_payload(text, [root]) == b"the photo"
    assert read_payload(f"file://localhost{root}/photo.jpg", [root]) == b"the photo"
    (root / "with space.jpg").write_bytes(b"spaced")
    assert read_payload(f"file://{root}/with%20space.jpg", [root]) == b"spaced"


def test_a_second_root_takes_absolute_paths(root: Path, tmp_path: Path) -> None:
    assert read_payload(str(root / "photo.jpg"), [tmp_path / "other", root]) == b"the photo"


def test_an_existing_file_wins_over_base64(root: Path) -> None:
    (root / "abcd").write_bytes(b"a file")
    assert read_payload("abcd", [root]) == b"a file"
    assert read_payload("abcd", []) == base64.b64decode("abcd")
    assert read_payload("efgh", [root]) == base64.b64decode("efgh")


def test_without_roots_no_file_is_read(root: Path) -> None:
    said = refusal(str(root / "photo.jpg"))
    assert "reads no files" in said
    assert "base64" in said
    assert "reads no files" in refusal(f"file://{root}/photo.jpg")


@pytest.mark.parametrize("spell", [str, lambda path: f"file://{path}"])
def test_outside_is_as_if_it_were_not_there(root: Path, tmp_path: Path, spell: Callable[[Path], str]) -> None:
    there, gone = spell(tmp_path / "secret.txt"), spell(tmp_path / "absent.txt")
    assert refusal(there, root) == refusal(gone, root).replace("absent", "secret")
    dotted = spell(root / ".." / "secret.txt")
    assert "nor a file that this server may read" in refusal(dotted, root)


def test_links_are_followed_before_the_root_is_checked(root: Path, tmp_path: Path) -> None:
    (root / "escape").symlink_to(tmp_path / "secret.txt")
    (root / "folder").symlink_to(tmp_path)
    (root / "inside").symlink_to("photo.jpg")
    (root / "loop.x").symlink_to("loop.x")
    assert "may read" in refusal("file:escape", root)
    assert "may read" in refusal("folder/secret.txt", root)
    assert "may read" in refusal("loop.x", root)
    assert read_payload("inside", [root]) == b"the photo"
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert read_payload("photo.jpg", [linked]) == b"the photo"


def test_a_root_is_no_prefix_of_its_neighbour(root: Path, tmp_path: Path) -> None:
    neighbour = tmp_path / "allowed-not"
    neighbour.mkdir()
    (neighbour / "photo.jpg").write_bytes(b"other")
    assert "may read" in refusal(str(neighbour / "photo.jpg"), root)


def test_only_regular_files(root: Path) -> None:
    os.mkfifo(root / "pipe.x")
    (root / "sub.x").mkdir()
    assert "not a regular file" in refusal("pipe.x", root)
    assert "not a regular file" in refusal("sub.x", root)
    assert "may read" in refusal("/dev/zero.", root)
    assert "may read" in refusal("file:///dev/zero", root)


def test_files_are_bounded(root: Path) -> None:
    with (root / "huge.bin").open("wb") as file:
        file.truncate(payload.MAX_FILE_BYTES + 1)
    assert "larger than 64 MiB" in refusal("huge.bin", root)


@pytest.mark.parametrize("text", ["a\0b", "file:///a%00b", "x/" * 3000 + ".", "file://other/photo.jpg", "file://[", "é" * 300])
def test_strange_names(text: str, root: Path) -> None:
    assert len(refusal(text, root)) < 400


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "/etc/nothere", "/etc", "/root/x/y/z", "//etc/shadow", "/elsewhere/picture", "../../secret", "~/secret"],
)
def test_a_path_is_not_taken_for_base64(text: str, root: Path) -> None:
    """Whether there is such a file makes no difference: `/etc/nothere` is answered as `/etc/passwd` is."""
    assert refusal(text, root) == (
        f"{text!r} is neither base64 nor a file that this server may read. "
        f"Send base64 or a data: URI. Files may be below {root}"
    )


def test_a_path_beside_a_root_is_not_taken_for_base64() -> None:
    assert "may read. " in refusal("/Volumes4/Mine", Path("/Volumes4/pictures"))
    assert read_payload("/Volumes4/Mine", [Path("/home/pi")]) == base64.b64decode("/Volumes4/Mine==")


def test_base64_that_begins_with_a_slash(root: Path) -> None:
    jpeg = bytes.fromhex("ffd8ffe000104a46494600010101006000600000ffdb")
    for data in (jpeg, jpeg[:3], b"\xff" * 9, b"\xfe\x00", *(b"\xff" + os.urandom(3000) for _ in range(50))):
        text = base64.b64encode(data).decode()
        assert text.startswith("/")
        assert read_payload(text, [root]) == data
    long = "/etc/aaa" + "aaaa" * 1500
    assert read_payload(long, [root]) == decode_base64(long)


def test_the_refusal_names_the_roots(root: Path, tmp_path: Path) -> None:
    assert refusal("file:///nothere", root, tmp_path).endswith(f"Files may be below {root} or {tmp_path}")
