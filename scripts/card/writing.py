"""Writes an image to a card, or unpacked to a file, and reads it back."""

import gzip
import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from card import disks
from card.settings import Trouble

BLOCK = 4 << 20
GB = 1_000_000_000
_SHOWN_S = 0.5


def write(image: Path, target: Path, sure: bool = False) -> None:
    """Write all of `image` (as it is, or packed as .xz, .gz or .zst) to a disk, once its owner has said so, or to a new file;
    then read it back. `sure`: nobody is asked. Raises: Trouble; before anything was written, where the disk must not be."""
    if not image.is_file():
        raise Trouble(f"there is no {image}")
    if target.is_block_device():
        disk = disks.of(target)
        check(image)
        print(disk, file=sys.stderr)
        if not sure:
            ask(disk)
        _write(image, disk.device, disk.size, os.O_EXCL)  # which the kernel refuses where anybody else uses the disk
        return
    if target.is_dir() or target.resolve().is_relative_to("/dev"):
        raise Trouble(f"{target} is no disk. lsblk shows which there are")
    if target.exists():
        raise Trouble(f"{target} is there already. Take it away, or name another")
    check(image)
    try:
        _write(image, target, shutil.disk_usage(target.parent).free, os.O_EXCL | os.O_CREAT)
    except (Trouble, KeyboardInterrupt):
        target.unlink(missing_ok=True)
        raise


def check(image: Path) -> None:
    """Raises: Trouble, where it does not begin with a table of partitions."""
    with _unpacked(image, "Nothing was written") as blocks, closing(blocks):
        first = next(blocks, b"")
    if first[510:512] != b"\x55\xaa":
        packed = "Unpack it first" if image.suffix in (".zip", ".7z", ".bz2") else "It may be packed as .xz, .gz or .zst"
        raise Trouble(f"{image} is no image of a card: it begins with no table of partitions. {packed}")


def _write(image: Path, target: Path, most: int, flags: int) -> None:
    try:
        mode = stat.S_IMODE(image.stat().st_mode) & 0o666  # who may not read the image may not read what was in it
        descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC | flags, mode)
    except OSError as error:
        raise Trouble(f"{target} cannot be written to: {error.strerror}") from None
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        written, digest = _copy(image, stream, most)
        _read_back(stream, target, written, digest)
    say(f"{target}: {written / GB:.2f} GB written and read back, sha256:{digest}")


def ask(disk: disks.Disk) -> None:
    """Raises: Trouble, unless its owner types the disk's name."""
    print(f"All that is on it will be lost. Type {disk.device.name} to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != disk.device.name:
        raise Trouble("nothing was written")


def say(line: str) -> None:
    print(f"edge-mcp flash: {line}", file=sys.stderr, flush=True)


class _Progress:
    """On a terminal: how much of what is done, how fast."""

    def __init__(self, done: str) -> None:
        self.done = done
        self.began = self.shown = time.monotonic()

    def at(self, size: int, of: int | None = None) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and (now - self.shown > _SHOWN_S or size == of):
            self.shown = now
            part = f" ({100 * size // of} %)" if of else ""
            speed = size / 1e6 / max(now - self.began, 1e-3)
            end = "\n" if size == of else ""
            print(f"\r\033[K{size / GB:.2f} GB {self.done}{part}, {speed:.0f} MB/s", end=end, file=sys.stderr, flush=True)


def _copy(image: Path, target: BinaryIO, most: int) -> tuple[int, str]:
    """Bytes written, and their SHA-256. The first block, with the table of partitions, goes last: a card whose writing was
    stopped does not look like a whole one."""
    digest, written, first, progress = hashlib.sha256(), 0, b"", _Progress("written")
    with _unpacked(image, "What was on the card is lost") as blocks:
        for block in filter(None, blocks):
            if written + len(block) > most:
                raise Trouble(f"{image.name} is too large: there are {most / GB:.2f} GB. What was on the card is lost")
            first = first or block
            _write_all(target, block if written else bytes(len(block)))
            digest.update(block)
            written += len(block)
            progress.at(written)
    target.seek(0)
    _write_all(target, first)
    os.fsync(target.fileno())
    progress.at(written, written)
    return written, digest.hexdigest()


def _write_all(target: BinaryIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[target.write(view) :]
    # What is shown as written is on the card, and nobody waits for minutes at the end.
    os.fdatasync(target.fileno())


def _read_back(target: BinaryIO, place: Path, size: int, wanted: str) -> None:
    os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the card, and not from memory
    target.seek(0)
    digest, left, progress = hashlib.sha256(), size, _Progress("read back")
    while left and (block := target.read(min(BLOCK, left))):
        digest.update(block)
        left -= len(block)
        progress.at(size - left, size)
    if digest.hexdigest() != wanted:
        raise Trouble(f"{place} does not hold what was written to it. Take another card")


@contextmanager
def _unpacked(image: Path, cost: str) -> Iterator[Generator[bytes, None, None]]:
    """The image's bytes in blocks; `cost` is what it means when they end too soon."""
    try:
        with image.open("rb") as packed:
            yield _blocks(image, packed)
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise Trouble(f"{image} is damaged: {error}. {cost}") from None
    except FileNotFoundError:
        raise Trouble(f"there is no {image}") from None


def _blocks(image: Path, packed: BinaryIO) -> Generator[bytes, None, None]:
    match image.suffix:
        case ".xz" | ".gz":
            with (lzma.open if image.suffix == ".xz" else gzip.open)(packed) as stream:
                yield from iter(lambda: stream.read(BLOCK), b"")
        case ".zst":
            yield from _by_zstd(image)
        case _:
            yield from iter(lambda: packed.read(BLOCK), b"")


def _by_zstd(image: Path) -> Generator[bytes, None, None]:
    if shutil.which("zstd") is None:
        raise Trouble("this needs zstd: sudo apt install zstd")
    command = ["zstd", "--decompress", "--stdout", "--quiet", str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking:
        while unpacking.stdout and (block := unpacking.stdout.read(BLOCK)):
            yield block
    if unpacking.returncode:
        raise EOFError("zstd could not unpack it")
