"""Writes an image to a card, and reads it back. What is in use is never written to."""

import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from card.settings import Trouble

BLOCK = 4 << 20
SECTOR = 512
GB = 1_000_000_000
_GZIP = 31  # zlib: with gzip's head and tail


@dataclass(frozen=True)
class Disk:
    """A whole disk, as the kernel tells of it."""

    device: Path
    size: int
    model: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        parts = f", partitions {', '.join(self.parts)}" if self.parts else ", without partitions"
        return f"{self.device}: {self.model}, {self.size / GB:.1f} GB{parts}"


def write(image: Path, device: Path, sure: bool = False) -> None:
    """Write all of `image` (as it is, or packed as .xz, .gz or .zst) to a disk, once its owner has said so; then read it back.
    `sure`: nobody is asked. Raises: Trouble; and before anything was written, where the disk may not be written to."""
    disk = of(device)
    print(disk, file=sys.stderr)
    if not sure:
        print(f"All that is on it will be lost. Type {disk.device.name} to go on: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() != disk.device.name:
            raise Trouble("nothing was written")
    try:
        # The kernel refuses O_EXCL where anybody else uses the disk.
        descriptor = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise Trouble(f"{device} cannot be written to: {error.strerror}") from None
    with os.fdopen(descriptor, "r+b", buffering=0) as target:
        written, digest = _copy(image, target, disk.size)
        _read_back(target, device, written, digest)
    print(f"{device}: {written / GB:.2f} GB written and read back, sha256:{digest}", file=sys.stderr)


def of(device: Path, system: Path = Path("/sys"), processes: Path = Path("/proc")) -> Disk:
    """A disk that may be written to. Raises: Trouble for what is no whole disk, or is in use."""
    real = device.resolve()
    try:
        mode = real.stat()
    except OSError as error:
        raise Trouble(f"{device}: {error.strerror}") from None
    if not stat.S_ISBLK(mode.st_mode):
        raise Trouble(f"{device} is no disk. lsblk shows which there are")
    entry = system / "class/block" / real.name
    if (entry / "partition").exists():
        whole = entry.resolve().parent.name
        raise Trouble(f"{device} is a part of a disk. Name the whole disk: /dev/{whole}")
    parts = sorted(path.parent.name for path in entry.glob(f"{real.name}*/partition"))
    _check_unused(device, (real.name, *parts), system, processes)
    if _text(entry / "ro") == "1":
        raise Trouble(f"{device} is protected from writing. An SD card has a slider for that")
    size = int(_text(entry / "size") or 0) * SECTOR
    if size == 0:
        raise Trouble(f"there is no card in {device}")
    model = " ".join(word for word in (_text(entry / "device/vendor"), _text(entry / "device/model")) if word)
    return Disk(real, size, model or _text(entry / "device/name") or "a disk without a name", tuple(parts))


def _check_unused(device: Path, names: Sequence[str], system: Path, processes: Path) -> None:
    """Raises: Trouble."""
    used = _used(processes)
    for name in names:
        place = system / "class/block" / name
        if where := used.get(_text(place / "dev")):
            raise Trouble(f"{device} is in use: {name} is mounted on {where}. A card of your own: sudo umount /dev/{name}")
        if holders := [path.name for path in (place / "holders").glob("*")]:
            raise Trouble(f"{device} is in use: {name} is part of {', '.join(holders)}")
    for line in (processes / "swaps").read_text().splitlines()[1:]:
        if Path(line.split()[0]).name in names:
            raise Trouble(f"{device} is in use: this machine swaps to it")


def _used(processes: Path) -> dict[str, str]:
    """Where what is mounted lies, by `major:minor` (proc(5), mountinfo)."""
    lines = (processes / "self/mountinfo").read_text().splitlines()
    return {fields[2]: fields[4] for fields in map(str.split, lines)}


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _copy(image: Path, target: BinaryIO, most: int) -> tuple[int, str]:
    """Bytes written, and their SHA-256."""
    digest, written = hashlib.sha256(), 0
    with _unpacked(image) as blocks:
        for block in blocks:
            if written + len(block) > most:
                raise Trouble(f"the card is too small: it has {most / GB:.1f} GB. What was on it is lost")
            view = memoryview(block)
            while view:
                view = view[target.write(view) :]
            digest.update(block)
            written += len(block)
            _progress("written", written)
    if written == 0:
        raise Trouble(f"{image} is empty")
    os.fsync(target.fileno())
    return written, digest.hexdigest()


def _read_back(target: BinaryIO, device: Path, size: int, wanted: str) -> None:
    os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the card, and not from memory
    target.seek(0)
    digest, left = hashlib.sha256(), size
    while left:
        block = target.read(min(BLOCK, left))
        if not block:
            break
        digest.update(block)
        left -= len(block)
        _progress("read back", size - left)
    if digest.hexdigest() != wanted:
        raise Trouble(f"{device} does not hold what was written to it. Take another card")


@contextmanager
def _unpacked(image: Path) -> Iterator[Iterator[bytes]]:
    """The image's bytes in blocks."""
    try:
        with image.open("rb") as packed:
            yield _blocks(image, packed)
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise Trouble(f"{image} is damaged: {error}. What was on the card is lost") from None
    except FileNotFoundError:
        raise Trouble(f"there is no {image}") from None


def _blocks(image: Path, packed: BinaryIO) -> Iterator[bytes]:
    match image.suffix:
        case ".xz":
            with lzma.open(packed) as stream:
                yield from iter(lambda: stream.read(BLOCK), b"")
        case ".gz":
            inflate = zlib.decompressobj(_GZIP)
            while piece := packed.read(1 << 16):
                yield inflate.decompress(piece)
            if not inflate.eof:
                raise EOFError("it ends too early")
        case ".zst":
            yield from _by_zstd(image)
        case _:
            yield from iter(lambda: packed.read(BLOCK), b"")


def _by_zstd(image: Path) -> Iterator[bytes]:
    if shutil.which("zstd") is None:
        raise Trouble("this needs zstd: sudo apt install zstd")
    command = ["zstd", "--decompress", "--stdout", "--quiet", str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking:
        while unpacking.stdout and (block := unpacking.stdout.read(BLOCK)):
            yield block
    if unpacking.returncode:
        raise EOFError("zstd could not unpack it")


def _progress(done: str, size: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{size / GB:.2f} GB {done}", end="" if size % (BLOCK * 8) else "\r", file=sys.stderr, flush=True)
