"""Room on the disk, and whether it or the card is about to fail.

Formats: Documentation/ABI/testing/sysfs-fs-ext4, driver-api/mmc/mmc-dev-attrs.rst of the Linux kernel; JEDEC JESD84-B51, 7.4.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from edge_mcp.load import signals
from edge_mcp.load.doctor import Device, Finding

_LEAST_MB = 500
_MUCH_GB_A_DAY = 5.0
_WORN = 9
"""Tenths of its life that an eMMC has used."""
_SAVE = "copy what matters, and replace it soon"


def disk(device: Device) -> Iterator[Finding]:
    """What the file systems and the cards say."""
    yield from _room(device)
    yield from _file_systems(device)
    for card in sorted((device.root / "sys/block").glob("mmcblk*[0-9]")):
        yield from _written(device, card)
        yield from _life(card)
    yield from _card_errors(device)


def _room(device: Device) -> Iterator[Finding]:
    folder = device.data
    while not _there(folder):
        folder = folder.parent
    status = os.statvfs(folder)
    free_mb = status.f_bavail * status.f_frsize / 2**20
    if status.f_flag & os.ST_RDONLY:
        do = "if nobody made it so: look for errors (dmesg), and replace the card"
        yield Finding("disk", "problem", f"{folder} is read-only", "models, hosts and measurements are not kept", do)
    elif free_mb >= _LEAST_MB:
        yield Finding("disk", "ok", f"{free_mb / 1024:.1f} GB free below {folder}")
    else:
        yield Finding("disk", "problem", f"{free_mb:.0f} MB free below {folder}", "models cannot be added", "free some space")


def _there(folder: Path) -> bool:
    try:
        return folder.exists()
    except PermissionError:  # of a service: root sees more
        return False


def _file_systems(device: Device) -> Iterator[Finding]:
    counts = {file.parent.name: _text(file).strip() for file in (device.root / "sys/fs/ext4").glob("*/errors_count")}
    bad = {name: int(count) for name, count in sorted(counts.items()) if count.isdigit() and int(count)}
    for name, count in bad.items():
        where = _text(device.root / "sys/fs/ext4" / name / "last_error_func").strip()
        found = f"{count} errors on {name}" + (f", the last in {where}" if where else "")
        do = f"{_SAVE}; have it checked: add fsck.mode=force to the one line of /boot/firmware/cmdline.txt, and reboot"
        yield Finding("file system", "problem", found, "files may be damaged, and it may become read-only", do)
    if counts and not bad:
        yield Finding("file system", "ok", f"no errors on {', '.join(sorted(counts))}")


def _written(device: Device, card: Path) -> Iterator[Finding]:
    try:
        uptime = float((device.text("proc/uptime") or "").split()[0])
        a_day = signals.sectors_written(_text(card / "stat")) / 2**30 / max(uptime, 3600.0) * 86400
    except (ValueError, IndexError):
        return
    found = f"{a_day:.1f} GB written a day since boot"
    if a_day < _MUCH_GB_A_DAY:
        yield Finding("card", "ok", found)
    else:
        do = "keep logs in memory (Storage=volatile in journald.conf), and no swap on the card"
        yield Finding("card", "note", found, "a cheap card is worn out within years", do)


def _life(card: Path) -> Iterator[Finding]:
    """What an eMMC says of itself; a card says nothing."""
    if _text(card / "ro").strip() == "1":
        found, do = f"{card.name} takes no writes", "look for the switch at its side; a worn out card locks itself: replace it"
        yield Finding("card writes", "problem", found, "nothing is kept", do)
    try:
        lives = [int(word, 16) for word in _text(card / "device/life_time").split()]
        end = int(_text(card / "device/pre_eol_info").strip() or "0", 16)
    except ValueError:
        return
    used = min(max(lives, default=0), 11)
    if used < 1:
        return
    found = f"{card.name} has used {(used - 1) * 10} to {used * 10} % of it" if used < 11 else f"{card.name} has outlived it"
    if used >= _WORN or end > 1:
        yield Finding("card life", "problem", found, "it may fail any day", _SAVE)
    else:
        yield Finding("card life", "ok", found)


def _card_errors(device: Device) -> Iterator[Finding]:
    """Those that the kernel's driver of cards has counted since boot; only root may read them."""
    if not list((device.root / "sys/block").glob("mmcblk*[0-9]")):
        return
    try:
        files = sorted(
            folder / "err_stats" for folder in (device.root / "sys/kernel/debug").iterdir() if folder.name.startswith("mmc")
        )
        texts = [file.read_text("ascii", "replace") for file in files if file.exists()]
    except OSError:
        do = "sudo edge-mcp doctor"
        yield Finding("card errors", "note", "not to be seen without root", "a failing card is noticed later", do)
        return
    counted = (line.strip("# ").rpartition(":") for text in texts for line in text.splitlines())
    errors = {name.strip(): int(count) for name, _, count in counted if count.strip().isdigit() and int(count)}
    if errors:
        found = "; ".join(f"{name}: {count}" for name, count in errors.items())
        do = f"check the power supply and that the card sits well; if they go on: {_SAVE}"
        yield Finding("card errors", "problem", found, "reading and writing take long, or fail", do)
    elif texts:
        yield Finding("card errors", "ok", "none since boot")


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
