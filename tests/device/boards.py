"""The processors of Raspberry Pis, emulated: programs for arm64 run on them in a file tree of their own."""

import zipfile
from pathlib import Path

from tests.device.machine import debian

INCLUDE = "--include=base-files,python3,libstdc++6"
SITE = "/opt/site"
# What QEMU calls the core, and what /proc/cpuinfo says of it: the runtimes look there for what it can do. Of these only the
# last has the dot product of ARMv8.2, and the emulated ones refuse it as the real ones do.
BOARDS = {
    "zero2w": ("cortex-a53", "0xd03", "0x0", "fp asimd evtstrm crc32 cpuid"),
    "pi4": ("cortex-a72", "0xd08", "0x0", "fp asimd evtstrm crc32 cpuid"),
    "pi5": (
        "cortex-a76",
        "0xd0b",
        "0x4",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}

# In a mount namespace of its own; the tree is an overlay, as others use it too. Which program runs files for arm64 is the
# kernel's to know: it is told once, and keeps that program open, so that the tree needs no copy of it.
_RUN = r"""
set -e
mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
handlers=/proc/sys/fs/binfmt_misc
[ -e "$handlers/qemu-aarch64" ] || [ -e "$handlers/edge-mcp-aarch64" ] || printf '%s' ":edge-mcp-aarch64:M::\
\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\
\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:\
$(command -v qemu-aarch64-static):F" >"$handlers/register"
! grep -q disabled "$handlers"/*-aarch64 || for one in "$handlers"/*-aarch64; do echo 1 >"$one"; done
work=$1 lower=$2 cpu=$3
shift 3
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$work/root"
mkdir -p "$work/root/proc" "$work/root/sys" "$work/root/tmp"
mount -t proc proc "$work/root/proc"
mount --bind "$work/cpuinfo" "$work/root/proc/cpuinfo"
mount --bind /sys "$work/root/sys"
mount --bind /dev "$work/root/dev"
exec env -i "QEMU_CPU=$cpu" PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/site chroot "$work/root" "$@"
"""


class Board:
    """A file tree with edge-mcp in it, as on a board named in `BOARDS`. `folder` is where what it writes goes."""

    def __init__(self, name: str, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self.cpu, part, variant, features = BOARDS[name]
        for sub in ("upper", "work", "root"):
            (folder / sub).mkdir(parents=True)
        core = f"Features\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        core += f"CPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: 3\n"
        (folder / "cpuinfo").write_text("\n".join(f"processor\t: {number}\n{core}" for number in range(2)))
        for wheel in sorted(wheels.glob("*.whl")):
            if not wheel.name.startswith("pip-"):
                with zipfile.ZipFile(wheel) as packed:
                    packed.extractall(folder / "upper" / SITE.lstrip("/"))

    def command(self, *words: str) -> list[str]:
        """How to run a command of the board from here."""
        lower = debian("--variant=extract", "--arch=arm64", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", INCLUDE)
        unshare = ["unshare", "--mount", "--propagation=private", "sh", "-c", _RUN, "sh"]
        return [*unshare, str(self.folder), str(lower), self.cpu, *words]
