"""The first partition of a card: where its file system is mounted, or inside of an image of the card, which nobody mounts."""

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from mmap import mmap
from pathlib import Path
from typing import Protocol

from card.settings import Trouble

SECTOR = 512
TEXT_MAX = 1 << 20
"""No file that this reads as a whole is longer."""
_FAT = (0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E)
_SIGNATURE = b"\x55\xaa"


class Partition(Protocol):
    """Names are of files in its top folder, or FOLDER/FILE. Every method raises Trouble or OSError."""

    def names(self) -> set[str]:
        """What is in its top folder."""

    def read(self, name: str) -> bytes:
        """A file, which has at most TEXT_MAX bytes."""

    def digest(self, name: str) -> str:
        """The SHA-256 of a file, read back from the disk; empty where there is none."""

    def write(self, name: str, content: bytes | Path) -> None:
        """Put these bytes, or those of this file, into a file, in the place of what it held."""

    def clear(self, name: str) -> None:
        """Overwrite what a file holds, where it stands on the disk. It holds what stands nowhere else."""

    def free(self) -> int:
        """Bytes."""


def of(place: Path) -> Partition:
    """Raises: Trouble, where this is no folder and no image with a FAT partition."""
    if place.is_dir():
        return Folder(place)
    if not place.exists():
        raise Trouble(f"there is no {place}. Name the folder where the card's first partition is mounted, or an image file")
    return Image(place)


class Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def read(self, name: str) -> bytes:
        with (self.folder / name).open("rb") as stream:
            return _text(name, stream.read(TEXT_MAX + 1))

    def digest(self, name: str) -> str:
        try:
            with (self.folder / name).open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the card, and not from memory
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            return ""

    def write(self, name: str, content: bytes | Path) -> None:
        target = self.folder / name
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(f"{target.name}.new")
        with temporary.open("wb") as stream:
            if isinstance(content, bytes):
                stream.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream, 1 << 20)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def clear(self, name: str) -> None:
        with (self.folder / name).open("r+b") as stream:
            stream.write(bytes(os.fstat(stream.fileno()).st_size))
            stream.flush()
            os.fsync(stream.fileno())

    def free(self) -> int:
        return shutil.disk_usage(self.folder).free


class Image:
    """By mtools, at the place of the first FAT partition in the table of the image."""

    def __init__(self, image: Path) -> None:
        if shutil.which("mcopy") is None:
            raise Trouble("a file of an image is written by mtools: sudo apt install mtools")
        self.image = image
        self._where = f"{image}@@{_start(image)}"

    def names(self) -> set[str]:
        listed = self._run("mdir", "-b", "-a", "::/").decode("utf-8", "replace")
        return {line.strip().removeprefix("::/").rstrip("/") for line in listed.splitlines() if line.strip()}

    def read(self, name: str) -> bytes:
        return _text(name, self._run("mcopy", "-n", f"::/{name}", "-"))

    def digest(self, name: str) -> str:
        with tempfile.TemporaryFile() as copy:
            command = self._command("mcopy", "-n", f"::/{name}", "-")
            ended = subprocess.run(command, stdout=copy, stderr=subprocess.DEVNULL, env=_environment(), check=False)
            copy.seek(0)
            return "" if ended.returncode else hashlib.file_digest(copy, "sha256").hexdigest()

    def write(self, name: str, content: bytes | Path) -> None:
        folder = name.rpartition("/")[0]
        if folder and folder not in self.names():
            self._run("mmd", f"::/{folder}")
        if isinstance(content, bytes):
            self._run("mcopy", "-o", "-", f"::/{name}", said=content)
        else:
            self._run("mcopy", "-o", str(content), f"::/{name}")
        with self.image.open("rb") as stream:
            os.fsync(stream.fileno())

    def clear(self, name: str) -> None:
        old = self.read(name)
        with self.image.open("r+b") as stream, mmap(stream.fileno(), 0) as content:
            at = content.find(old)
            while at >= 0:
                content[at : at + len(old)] = bytes(len(old))
                at = content.find(old, at + len(old))

    def free(self) -> int:
        said = self._run("mdir", "-a", "::/").decode("utf-8", "replace")
        found = re.findall(r"([\d ]+) bytes free", said)
        return int(found[-1].replace(" ", "")) if found else 0

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-i", self._where, *arguments]

    def _run(self, program: str, *arguments: str, said: bytes | None = None) -> bytes:
        command = self._command(program, *arguments)
        ended = subprocess.run(command, input=said, capture_output=True, env=_environment(), check=False)
        if ended.returncode:
            words = ended.stderr.decode("utf-8", "replace").strip().splitlines() or ["it ended"]
            raise Trouble(f"{self.image}: {program}: {words[-1]}")
        return ended.stdout


def _environment() -> Mapping[str, str]:
    return {**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}


def _text(name: str, content: bytes) -> bytes:
    if len(content) > TEXT_MAX:
        raise Trouble(f"{name} on the card is too long to be what it should be")
    return content


def _start(image: Path) -> int:
    """Where the first partition begins, in bytes, by the table of partitions of PCs; 0 for a file system without one."""
    with image.open("rb") as stream:
        first = stream.read(SECTOR)
        if len(first) < SECTOR or first[-2:] != _SIGNATURE:
            raise Trouble(f"{image} is no image of a card. A packed one is unpacked by: scripts/flash write {image} FILE")
        if first[54:57] == b"FAT" or first[82:85] == b"FAT":
            return 0
        for entry in range(446, 510, 16):
            kind, start = first[entry + 4], struct.unpack_from("<I", first, entry + 8)[0]
            if kind in _FAT and start:
                return int(start) * SECTOR
    raise Trouble(f"{image} has no FAT partition: it is no image of Raspberry Pi OS")
