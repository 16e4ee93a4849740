"""The disks of this machine, and which of them may be written to. What is in use never is."""

import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from card.settings import Trouble

SECTOR = 512
GB = 1_000_000_000


@dataclass(frozen=True)
class Disk:
    """A whole disk, as the kernel tells of it."""

    device: Path
    size: int
    model: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.device}: {self.model}, {self.size / GB:.1f} GB, {_content(self) or 'nothing on it that is known here'}"


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
        if used.get(name) == "/" or used.get(_text(place / "dev")) == "/":
            raise Trouble(f"{device} is what this machine runs from")
        if where := used.get(_text(place / "dev")) or used.get(name):
            raise Trouble(
                f"{device} is in use: {name} is mounted on {where}. Is it the right one, then: sudo umount /dev/{name}"
            )
        if holders := [path.name for path in (place / "holders").glob("*")]:
            raise Trouble(f"{device} is in use: {name} is part of {', '.join(holders)}")
    for line in (processes / "swaps").read_text().splitlines()[1:]:
        if Path(line.split()[0]).name in names:
            raise Trouble(f"{device} is in use: this machine swaps to it")


def _used(processes: Path) -> dict[str, str]:
    """Where what is mounted lies, by `major:minor` and by the device's name (proc(5), mountinfo)."""
    lines = (processes / "self/mountinfo").read_text().splitlines()
    used = {}
    for fields in map(str.split, lines):
        # Btrfs has numbers of its own, and there the source tells.
        source = fields[fields.index("-") + 2] if "-" in fields else ""
        used[fields[2]] = used[Path(source).name] = fields[4]
    return used


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _content(disk: Disk) -> str:
    """The file systems on it, with their labels."""
    found = []
    for name in disk.parts or (disk.device.name,):
        command = ["/usr/sbin/blkid", "--probe", "--output", "export", f"/dev/{name}"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except OSError:
            said = ""
        tags = dict(line.partition("=")[::2] for line in said.splitlines())
        words = [tags[tag] for tag in ("LABEL", "TYPE") if tag in tags]
        if words or disk.parts:
            found.append(" ".join([name, *words]))
    return "with " + ", ".join(found) if found else ""
