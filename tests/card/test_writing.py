"""An image is written to a real block device, and to none that is in use."""

import gzip
import hashlib
import io
import lzma
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card.disks import of
from card.settings import Trouble
from card.writing import write

SIZE = 8 << 20


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB with something on it."""
    if os.geteuid() != 0:
        pytest.fail("this test makes a block device, for which it has to be root")
    (tmp_path / "card").write_bytes(os.urandom(SIZE))
    made = subprocess.run(["losetup", "--find", "--show", str(tmp_path / "card")], capture_output=True, text=True, check=True)
    device = Path(made.stdout.strip())
    yield device
    subprocess.run(["losetup", "--detach", str(device)], check=True)


def image(folder: Path, suffix: str) -> tuple[Path, bytes]:
    content = os.urandom(510) + b"\x55\xaa" + os.urandom((1 << 18) - 512) + bytes(5 << 20) + os.urandom(512 * 11)
    made = folder / f"image.img{suffix}"
    match suffix:
        case ".gz":
            made.write_bytes(gzip.compress(content))
        case ".xz":
            made.write_bytes(lzma.compress(content, preset=0))
        case ".zst":
            made.write_bytes(subprocess.run(["zstd", "-1"], input=content, capture_output=True, check=True).stdout)
        case _:
            made.write_bytes(content)
    return made, content


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_what_is_written_can_be_read(suffix: str, card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, content = image(tmp_path, suffix)
    write(packed, card, sure=True)
    with card.open("rb") as device:
        assert device.read(len(content)) == content
    assert f"read back, sha256:{hashlib.sha256(content).hexdigest()}" in capsys.readouterr().err


def test_a_new_file_does_as_well(tmp_path: Path) -> None:
    packed, content = image(tmp_path, ".zst")
    write(packed, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    with pytest.raises(Trouble, match="is there already"):
        write(packed, tmp_path / "copy")
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(Trouble, match="is damaged"):
        write(packed, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    for place in (tmp_path, Path("/dev/no-such-card"), Path("/dev/null")):
        with pytest.raises(Trouble, match="is no disk"):
            write(packed, place)


def test_what_is_on_a_card_is_shown(card: Path, tmp_path: Path) -> None:
    assert str(of(card)) == f"{card}: a disk without a name, 0.0 GB, nothing on it that is known here"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "holidays", str(card)], check=True)
    assert f"with {card.name} holidays ext4" in str(of(card))


def test_a_card_whose_writing_was_stopped_has_no_table_of_partitions(card: Path, tmp_path: Path) -> None:
    packed, _ = image(tmp_path, ".gz")
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-9])
    with pytest.raises(Trouble, match="is damaged"):
        write(packed, card, sure=True)
    assert card.read_bytes()[:512] == bytes(512)


def test_its_owner_is_asked(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, content = image(tmp_path, "")
    before = card.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    with pytest.raises(Trouble, match="nothing was written"):
        write(packed, card)
    assert card.read_bytes() == before
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{card.name}\n"))
    write(packed, card)
    assert card.read_bytes()[: len(content)] == content


def test_a_disk_in_use_is_left_alone(card: Path, tmp_path: Path) -> None:
    subprocess.run(["mke2fs", "-q", "-F", str(card)], check=True)
    (tmp_path / "mounted").mkdir()
    subprocess.run(["mount", str(card), str(tmp_path / "mounted")], check=True)
    try:
        with pytest.raises(Trouble, match=f"{card} is in use: {card.name} is mounted on {tmp_path}/mounted"):
            write(image(tmp_path, "")[0], card, sure=True)
    finally:
        subprocess.run(["umount", str(card)], check=True)


def test_the_disk_of_this_machine_is_left_alone(tmp_path: Path) -> None:
    device = subprocess.run(["findmnt", "-no", "SOURCE", "/"], capture_output=True, text=True, check=True).stdout.strip()
    if device.startswith("/dev/"):
        with pytest.raises(Trouble, match=r"is what this machine runs from|is a part of a disk"):
            write(image(tmp_path, "")[0], Path(device), sure=True)


@pytest.mark.parametrize(
    ("suffix", "change", "words"),
    [
        ("", lambda content: b"", "no table of partitions"),
        ("", lambda content: b"# About this card\n" * 100, "no table of partitions"),
        ("", lambda content: content * 2, "is too large"),
        (".gz", lambda content: content[:-9], "is damaged"),
        (".xz", lambda content: content[:-9], "is damaged"),
        (".zst", lambda content: b"nothing of the kind", "is damaged"),
    ],
)
def test_an_image_that_cannot_be_is_told(suffix: str, change, words: str, card: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    packed, _ = image(tmp_path, suffix)
    packed.write_bytes(change(packed.read_bytes()))
    with pytest.raises(Trouble, match=words):
        write(packed, card, sure=True)


@pytest.mark.parametrize("suffix", [".zip", ".txt", ".zst"])
def test_what_is_no_image_is_told_before_anything_is_lost(suffix: str, card: Path, tmp_path: Path) -> None:
    packed, content = image(tmp_path, "")
    write(packed, card, sure=True)
    other = tmp_path / f"other{suffix}"
    other.write_bytes(b"PK" * 4000)
    with pytest.raises(Trouble, match="Nothing was written" if suffix == ".zst" else "no table of partitions"):
        write(other, card, sure=True)
    with card.open("rb") as device:
        assert device.read(len(content)) == content


def test_who_may_not_read_the_image_may_not_read_what_is_made_of_it(tmp_path: Path) -> None:
    packed, _ = image(tmp_path, ".gz")
    packed.chmod(0o600)
    write(packed, tmp_path / "card.img")
    assert (tmp_path / "card.img").stat().st_mode & 0o777 == 0o600


def test_what_is_no_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Trouble, match="is no disk"):
        of(tmp_path / "file")
    with pytest.raises(Trouble, match="No such file"):
        of(tmp_path / "none")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"block/loop0/ro": "1", "block/loop0/size": "100"}, "protected from writing"),
        ({"block/loop0/size": "0"}, "there is no card in"),
        (
            {"block/loop0/size": "9", "block/loop0/loop0p1/partition": "1", "class/block/loop0p1/holders/dm-0/x": ""},
            "part of dm-0",
        ),
        (
            {"block/loop0/size": "9", "block/loop0/loop0p1/partition": "1", "swaps": "Filename\n/dev/loop0p1 partition"},
            "swaps to it",
        ),
        ({"block/sda/loop0/partition": "1"}, "is a part of a disk. Name the whole disk: /dev/sda"),
    ],
)
def test_what_the_kernel_tells_of_a_disk_is_heeded(files: dict[str, str], words: str, card: Path, tmp_path: Path) -> None:
    system, processes = tmp_path / "sys", tmp_path / "proc"
    (processes / "self").mkdir(parents=True)
    (processes / "self/mountinfo").write_text("")
    (processes / "swaps").write_text(files.pop("swaps", "Filename"))
    for path, text in files.items():
        place = system / path.replace("loop0", card.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    entry = system / "class/block" / card.name
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.symlink_to(next(system.glob(f"block/**/{card.name}")))
    if "swaps to" in words:
        (processes / "swaps").write_text(f"Filename\n/dev/{card.name}p1 partition")
    with pytest.raises(Trouble, match=words):
        of(card, system, processes)
