"""The ready image: Debian for arm64 with edge-mcp, made from packages, without loop devices.

It needs root and some of Debian's packages (NEEDED), and on a machine that is not arm64 qemu-user-static. What the first boot
does is in root/. Two images made of the same are alike, but not to the byte: the files of edge-mcp are as old as the image.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from card.settings import Trouble, Wishes

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = Path(__file__).with_name("root")
RELEASE = "trixie"
PYTHON = "3.13"
PACKAGES = (
    *("systemd", "systemd-sysv", "systemd-resolved", "systemd-timesyncd", "systemd-zram-generator", "udev", "dbus", "kmod"),
    *(
        "linux-image-arm64",
        "initramfs-tools",
        "zstd",
        "raspi-firmware",
        "firmware-brcm80211",
        "wireless-regdb",
        "wpasupplicant",
    ),
    *("iproute2", "openssh-server", "python3", "python3-venv", "openssl", "libstdc++6", "ca-certificates"),
    *("fdisk", "e2fsprogs", "dosfstools", "sudo", "tzdata"),
)
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "unshare": "util-linux",
    "xz": "xz-utils",
    "zstd": "zstd",
}
PACKERS = {".xz": ("xz", "-T0", "-3"), ".zst": ("zstd", "-q", "-T0", "-10")}
"""How a file whose name ends so is packed; each writes beside what it is given."""
MASKED = (
    "systemd-firstboot.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
)
"""What asks at a console that nobody sees, what writes to the card once a day, and what is for disks that are not there."""
KEPT_S = 14 * 86400.0
"""How long Debian's part is taken as it is: what is older has holes that Debian has closed meanwhile."""
CPU = "cortex-a72"
"""What qemu is; with its own choice Python is twenty times as slow."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-mcp" / "card"
MIB = 1 << 20
START_MB, BOOT_MB = 4, 256
SPARE = 1.15
ROOT_LABEL, BOOT_LABEL = "edge-mcp-root", "EDGE-MCP"
"""Not those of Raspberry Pi OS: a card of its in a reader must not be taken for this one's root."""
_SETUP = (
    'mkdir -p "$1/etc/default" "$1/boot/firmware"',
    rf'printf "ROOTPART=LABEL={ROOT_LABEL}\nCONSOLES=auto\n" > "$1/etc/default/raspi-firmware"',
    rf'printf "LABEL={ROOT_LABEL} / ext4 defaults 0 1\nLABEL={BOOT_LABEL} /boot/firmware vfat defaults 0 2\n" > "$1/etc/fstab"',
)
_INSIDE = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")


def build(output: Path, wishes: Wishes, bundle: Path | None = None) -> None:
    """Write the image, packed where its name ends with .xz or .zst, and beside it OUT.sha256; whole, or not at all. `bundle` is
    one of scripts/bundle for aarch64. Raises: Trouble."""
    if output.exists() and not output.is_file():
        raise Trouble(f"{output} is no file. An image is written to a card by: scripts/flash write IMAGE DEVICE")
    if missing := sorted({package for program, package in NEEDED.items() if shutil.which(program) is None}):
        raise Trouble(f"this needs {' '.join(missing)}: sudo apt install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise Trouble("this needs root, for the owners of the files of the image. Run it with sudo")
    if os.uname().machine != "aarch64":
        emulate()
    os.umask(0o022)  # services that are not root read what is in it
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".image-") as temporary:
        folder = Path(temporary)
        if bundle is None:
            say("fetching edge-mcp and its wheels")
            bundle = folder / "bundle.tar"
            run(sys.executable, str(ROOT / "scripts/bundle"), "--arch=aarch64", f"--python={PYTHON}", f"--output={bundle}")
        tree = folder / "tree"
        tree.mkdir()
        run("tar", "--numeric-owner", "-xpf", str(debian()), "-C", str(tree))
        say("installing edge-mcp")
        install(tree, bundle)
        furnish(tree, wishes)
        say("writing the image")
        image = folder / "image"
        assemble(tree, image)
        if packer := PACKERS.get(output.suffix):
            say("packing it")
            run(*packer, str(image))
            image = image.with_suffix(output.suffix)
        if wishes.token or wishes.wifi_key:
            image.chmod(0o600)  # who reads it could use them
        with image.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        image.replace(output)
    output.with_name(f"{output.name}.sha256").write_text(f"{digest}  {output.name}\n")
    say(f"{output}: {output.stat().st_size / MIB:.0f} MiB, sha256:{digest}")


def emulate() -> None:
    """Programs for arm64 run on this machine. Raises: Trouble."""
    table = Path("/proc/sys/fs/binfmt_misc")
    if not (table / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", str(table))
    handler = table / "qemu-aarch64"
    if not handler.exists() and shutil.which("update-binfmts"):
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], check=False)
    if not handler.exists() or "F" not in handler.read_text().split("flags:")[1].splitlines()[0]:
        raise Trouble("programs for arm64 do not run here: sudo apt install qemu-user-static binfmt-support")


def debian() -> Path:
    """Debian's part of the image, which is made once and then again when it is old: an archive."""
    recipe = repr((RELEASE, PACKAGES, _SETUP, _LEFT_OUT))
    archive = CACHE / f"debian-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < KEPT_S:
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    say("fetching and unpacking Debian: 7 minutes on a machine of another kind, the first time")
    unfinished = archive.with_suffix(".unfinished.tar")
    options = [f"--setup-hook={step}" for step in _SETUP]
    options += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold"]
    run(
        *("mmdebstrap", "--variant=minbase", "--arch=arm64", "--components=main,non-free-firmware", *options),
        *(f"--include={','.join(PACKAGES)}", '--aptopt=Apt::Install-Recommends "false"', RELEASE, str(unfinished)),
        *mirrors()[:1],
    )
    unfinished.replace(archive)
    return archive


def mirrors() -> list[str]:
    """Where this machine's packages of Debian come from, if it has any; that of the security team is the last. What else it has
    (of Raspberry Pi, of Docker, with a password) is nothing for a device."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout if shutil.which(command[0]) else ""
    found = {
        line.removeprefix("Debian ").rstrip("/") for line in said.splitlines() if re.match(r"Debian https?://[^@]+$", line)
    }
    return sorted(found, key=lambda mirror: (mirror.endswith("-security"), mirror))


def install(tree: Path, bundle: Path) -> None:
    """As scripts/install does it on a device that runs."""
    inside = tree / "tmp/bundle"
    inside.mkdir()
    run("tar", "-xf", str(bundle), "-C", str(inside), "--strip-components=1")
    chroot(tree, "python3", "/tmp/bundle/install", "--image")  # noqa: S108 - that of the image
    shutil.rmtree(inside)


def furnish(tree: Path, wishes: Wishes) -> None:
    """What makes a device of it, and nothing that two devices may share."""
    run("cp", "--recursive", "--no-preserve=mode,ownership", f"{OVERLAY}/.", str(tree))
    for program in (tree / "usr/local/lib/edge-mcp").iterdir():
        program.chmod(0o755)
    units = ("edge-mcp-grow", "edge-mcp-first-boot", "systemd-networkd", "systemd-resolved", "systemd-timesyncd", "ssh")
    chroot(tree, "systemctl", "enable", "--quiet", *(f"{unit}.service" for unit in units))
    chroot(tree, "systemctl", "mask", "--quiet", *MASKED)
    # The one for the network that the owner names is enabled by the first boot.
    chroot(tree, "systemctl", "disable", "--quiet", "wpa_supplicant.service")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # An empty one would not count as a first boot.
    (tree / "etc/machine-id").write_text("uninitialized\n")
    for rest in ("var/lib/systemd/random-seed", "var/lib/dbus/machine-id", "etc/resolv.conf"):
        (tree / rest).unlink(missing_ok=True)
    (tree / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (tree / "etc/hostname").write_text("edge\n")
    shutil.rmtree(tree / "var/lib/apt/lists", ignore_errors=True)
    if lines := [source(mirror) for mirror in mirrors()]:
        (tree / "etc/apt/sources.list").write_text("".join(lines))
    wished = tree / "boot/firmware/edge-mcp-card.toml"
    wished.write_text(wishes.toml())


def source(mirror: str) -> str:
    """What apt on the device is told of a mirror, so that its owner gets what is mended after the image was made."""
    suites = (f"{RELEASE}-security",) if mirror.endswith("-security") else (RELEASE, f"{RELEASE}-updates")
    return "".join(f"deb {mirror} {suite} main non-free-firmware\n" for suite in suites)


def assemble(tree: Path, image: Path) -> None:
    """A FAT partition for the firmware, and an ext4 partition for all else, in one file with a table of both."""
    boot, root = image.with_suffix(".boot"), image.with_suffix(".root")
    firmware = tree / "boot/firmware"
    run("truncate", f"--size={BOOT_MB}M", str(boot))
    run("mkfs.vfat", "-F", "32", "-n", BOOT_LABEL, str(boot))
    run("mcopy", "-i", str(boot), "-s", "-Q", "-m", *(str(path) for path in sorted(firmware.iterdir())), "::/")
    for path in firmware.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    used = int(subprocess.run(["du", "-sm", str(tree)], capture_output=True, text=True, check=True).stdout.split()[0])
    root_mb = int(used * SPARE) + 128
    run("truncate", f"--size={root_mb}M", str(root))
    run("mke2fs", "-q", "-t", "ext4", "-L", ROOT_LABEL, "-m", "1", "-d", str(tree), str(root))
    run("truncate", f"--size={START_MB + BOOT_MB + root_mb}M", str(image))
    table = (
        "label: dos\n"
        f"start={START_MB}MiB, size={BOOT_MB}MiB, type=c, bootable\n"
        f"start={START_MB + BOOT_MB}MiB, size={root_mb}MiB, type=83\n"
    )
    run("sfdisk", "--quiet", str(image), said=table)
    for part, at in ((boot, START_MB), (root, START_MB + BOOT_MB)):
        run("dd", f"if={part}", f"of={image}", "bs=1M", f"seek={at}", "conv=notrunc,sparse", "status=none")
        part.unlink()


def chroot(tree: Path, *command: str) -> None:
    """Run a program of the image's. What it sees of this machine is mounted for itself alone, and gone when it ends."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "QEMU_CPU": CPU, "LC_ALL": "C.UTF-8", "HOME": "/root"}
    run("unshare", "--mount", "--propagation=private", "sh", "-c", _INSIDE, str(tree), *command, environment=environment)


def run(*command: str, said: str | None = None, environment: dict[str, str] | None = None) -> None:
    """Raises: Trouble with what the command said."""
    whole = {**os.environ, "QEMU_CPU": CPU} if environment is None else environment
    ended = subprocess.run(command, input=said, env=whole, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Trouble(f"{short(command)} failed:\n{(ended.stderr or ended.stdout).strip()[-2000:]}")


def short(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:3]])


def say(line: str) -> None:
    print(f"edge-mcp flash: {line}", file=sys.stderr, flush=True)
