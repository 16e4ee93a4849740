"""A tree of files becomes an image with two partitions, which hold what was in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card import image
from card.settings import Trouble, Wishes

ROOT_AT_MB = image.START_MB + image.BOOT_MB
# What apt-get says of where packages come from: origin and address.
SOURCES = """\
Raspberry Pi Foundation http://archive.example/debian/
Debian http://mirror.example/debian/
Debian http://mirror.example/debian/
Debian http://mirror.example/debian-security/
Debian https://me:secret@mirror.example/debian
Debian mirror+file:/etc/apt/mirrors/debian.list
Docker https://download.example/linux/debian
"""


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_tree_becomes_two_partitions(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "boot/firmware/overlays").mkdir(parents=True)
    (tree / "boot/firmware/config.txt").write_text("arm_64bit=1\n")
    (tree / "boot/firmware/overlays/a.dtbo").write_bytes(bytes(range(256)))
    (tree / "etc").mkdir()
    (tree / "etc/hostname").write_text("edge\n")
    (tree / "etc/secret").write_text("no\n")
    (tree / "etc/secret").chmod(0o600)
    made = tmp_path / "card.img"

    image.assemble(tree, made)

    boot, root = json.loads(said("sfdisk", "--json", str(made)))["partitiontable"]["partitions"]
    assert (boot["type"], boot["start"], boot["size"]) == ("c", image.START_MB * 2048, image.BOOT_MB * 2048)
    assert (root["type"], root["start"]) == ("83", ROOT_AT_MB * 2048)
    assert made.stat().st_size == (root["start"] + root["size"]) * 512
    first = f"{made}@@{image.START_MB}M"
    assert said("mtype", "-i", first, "::/config.txt") == "arm_64bit=1\n"
    copied = tmp_path / "a.dtbo"
    said("mcopy", "-i", first, "::/overlays/a.dtbo", str(copied))
    assert copied.read_bytes() == bytes(range(256))
    second = f"{made}?offset={ROOT_AT_MB << 20}"
    assert said("debugfs", "-R", "cat /etc/hostname", second) == "edge\n"
    assert "Mode:  0600" in said("debugfs", "-R", "stat /etc/secret", second)
    listed = said("debugfs", "-R", "ls -p /boot/firmware", second)
    assert [line.split("/")[5] for line in listed.split()] == [".", ".."]  # a place to mount the first one
    said("e2fsck", "-fn", second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dtbo", "card.img", "tree"]


def test_a_card_is_no_place_for_an_image(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match="is no file"):
        image.build(Path("/dev/null"), Wishes())
    with pytest.raises(Trouble, match="is no file"):
        image.build(tmp_path, Wishes())


def test_only_debian_s_own_and_nobody_s_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "apt-get"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{SOURCES}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert image.mirrors() == ["http://mirror.example/debian", "http://mirror.example/debian-security"]
    assert image.source("http://mirror.example/debian-security").count("-security") == 2
