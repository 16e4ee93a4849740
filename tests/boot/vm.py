"""A whole arm64 computer in QEMU: Debian with its own kernel on 512 MB and two Cortex-A72. It needs root, and minutes.

`disk` makes what it boots from; `Computer` is one that is switched on, whose first network interface is at `ADDRESS`. It has a
door: a port where a shell reads what to do as root, started by systemd for each connection, so that it takes no memory else.
"""

import gzip
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.device.machine import debian

KERNEL = (
    "--variant=extract",
    "--arch=arm64",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--include=linux-image-cloud-arm64,busybox-static",
)
ROOT = (
    "--variant=minbase",
    "--arch=arm64",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--include=systemd,systemd-sysv,udev,dbus,kmod,iproute2,procps,python3,python3-venv,libstdc++6",
)
NEEDED = {
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "cpio": "cpio",
    "xz": "xz-utils",
}
MEMORY_MB = 512
ADDRESS = "10.78.0.9"
"""Within what `tests.discovery.segment` numbers its hosts by; QEMU's own network takes the same one."""
PORT, DOOR = 8765, 7
BOOT_S = 300.0
RUN_S = 1800.0

FILES = {
    "etc/hostname": "cupboard\n",
    "etc/fstab": "/dev/vda / ext4 defaults,noatime 0 1\n",
    "etc/machine-id": "uninitialized\n",
    "etc/systemd/network/cable.network": f"[Match]\nType=ether\n[Network]\nAddress={ADDRESS}/24\nGateway=10.78.0.1\n",
    "etc/systemd/system/door.socket": f"[Socket]\nListenStream={DOOR}\nAccept=yes\n[Install]\nWantedBy=sockets.target\n",
    "etc/systemd/system/door@.service": (
        "[Unit]\nCollectMode=inactive-or-failed\n[Service]\nExecStart=-/bin/sh\nStandardInput=socket\nStandardOutput=socket\n"
        "StandardError=journal\n"
    ),
    # What it logs is still there after the power was cut.
    "etc/systemd/journald.conf.d/kept.conf": "[Journal]\nStorage=persistent\nSyncIntervalSec=5s\n",
}
LINKS = {
    "etc/systemd/system/sockets.target.wants/door.socket": "../door.socket",
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": "/usr/lib/systemd/system/systemd-networkd.service",
    "etc/systemd/system/systemd-firstboot.service": "/dev/null",
    # Nobody logs in there, and nobody waits for the network.
    "etc/systemd/system/systemd-networkd-wait-online.service": "/dev/null",
    "etc/systemd/system/getty.target": "/dev/null",
}

_INIT = """\
#!/bin/sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do $b insmod $module; done
until [ -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 /dev/vda /root
$b mount -o move /dev /root/dev
exec $b switch_root /root /sbin/init
"""
# The tree is an overlay, as others use the lower one too.
_DISK = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
truncate -s 4G "$2/disk.raw"
mke2fs -q -t ext4 -F -L rootfs -d "$2/root" "$2/disk.raw"
"""
# A bridge, as a switch between the computer's interface and the hosts of a segment.
_TAP = """
set -e
ip tuntap add dev tap0 mode tap
ip link set tap0 master lan up
exec "$@"
"""


def missing() -> list[str]:
    """The packages that have to be installed here first."""
    return sorted({package for program, package in NEEDED.items() if shutil.which(program, path=_PATH) is None})


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def trees() -> tuple[Path, Path]:
    """The file trees of the kernel and of Debian, made once and kept in the cache."""
    assert os.geteuid() == 0, "this test boots a computer, for which it has to be root"
    assert not missing(), f"this test needs: apt-get install --no-install-recommends {' '.join(missing())}"
    os.environ["QEMU_CPU"] = "cortex-a72"  # with the default one, which has all that ARM ever thought of, it takes hours
    return debian(*KERNEL), debian(*ROOT)


def disk(folder: Path, files: dict[str, Path]) -> Path:
    """A disk in `folder` that boots to a Debian with `files` in it; beside it lie `kernel` and `initrd`."""
    kernel, root = trees()
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(parents=True)
    upper = folder / "upper"
    (modules,) = (kernel / "usr/lib/modules").iterdir()
    shutil.copytree(modules, upper / "usr/lib/modules" / modules.name)
    subprocess.run(["depmod", "-b", str(upper / "usr"), modules.name], check=True, env={"PATH": _PATH})
    for name, content in FILES.items():
        _at(upper, name).write_text(content)
    for name, target in LINKS.items():
        _at(upper, name).symlink_to(target)
    for name, file in files.items():
        (shutil.copytree if file.is_dir() else shutil.copy2)(file, _at(upper, name.lstrip("/")))
    shutil.copy(next((kernel / "boot").glob("vmlinuz-*")), folder / "kernel")
    _initrd(folder / "initrd", upper, modules.name, kernel / "usr/bin/busybox")
    _call("unshare", "--mount", "--propagation=private", "sh", "-c", _DISK, "sh", str(root), str(folder))
    for name in ("upper", "work", "root"):
        shutil.rmtree(folder / name)
    image = folder / "disk.qcow2"
    _call("qemu-img", "convert", "-O", "qcow2", str(folder / "disk.raw"), str(image))
    (folder / "disk.raw").unlink()
    return image


def _at(root: Path, name: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    return root / name


def _initrd(file: Path, root: Path, version: str, busybox: Path) -> None:
    """What finds the disk: modules in the order in which they need each other, a shell, and a script."""
    top = file.with_name("initrd.d")
    for name in ("bin", "dev", "root", "modules"):
        (top / name).mkdir(parents=True)
    shutil.copy(busybox, top / "bin/busybox")
    (top / "bin/sh").symlink_to("busybox")
    (top / "init").write_text(_INIT)
    (top / "init").chmod(0o755)
    command = ("modprobe", "--set-version", version, "--dirname", str(root / "usr"), "--show-depends", "virtio_blk")
    for number, line in enumerate(_call(*command).splitlines()):
        if line.startswith("insmod "):
            module = Path(line.split()[1])
            target = top / "modules" / f"{number:02}-{module.name.removesuffix('.xz')}"
            target.write_bytes(module.read_bytes())
            if module.suffix == ".xz":
                target.rename(target.with_name(target.name + ".xz"))
                _call("xz", "--decompress", str(target) + ".xz")
    names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"], input=names.encode(), cwd=top, stdout=subprocess.PIPE, check=True
    )
    file.write_bytes(gzip.compress(packed.stdout, 1))
    shutil.rmtree(top)


def _call(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": _PATH}, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


class Computer:
    """One that is switched on, as long as the `with` lasts or until `cut`. `folder` is where its disk, kernel and console lie.

    `loads` names a snapshot that it goes on from. `switch` is how to enter the namespace of a segment's bridge that it is
    connected to; else it is at `127.0.0.1:port` (and the door at `127.0.0.1:door`) and reaches nobody.
    """

    def __init__(self, folder: Path, more: Sequence[Path] = (), loads: str | None = None, switch: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port, self.door = _free(), _free()
        self.console = folder / "console"
        forwards = f"hostfwd=tcp:127.0.0.1:{self.port}-{ADDRESS}:{PORT},hostfwd=tcp:127.0.0.1:{self.door}-{ADDRESS}:{DOOR}"
        network = f"user,id=cable,restrict=on,net=10.78.0.0/24,host=10.78.0.1,{forwards}"
        if switch:
            network = "tap,id=cable,ifname=tap0,script=no,downscript=no,vnet_hdr=off"
        unused = ["-netdev", "user,id=unused"] if switch else []  # a snapshot has the state of one
        drives = [("disk.qcow2", "qcow2,cache=writeback"), *((str(file), "raw,readonly=on") for file in more)]
        command = [
            *("qemu-system-aarch64", "-M", "virt,gic-version=max", "-cpu", "cortex-a72", "-smp", "2", "-m", str(MEMORY_MB)),
            *("-accel", "tcg,thread=multi", "-nodefaults", "-nographic", "-no-reboot", "-serial", "file:console"),
            *("-monitor", "unix:monitor,server=on,wait=off", "-kernel", "kernel", "-initrd", "initrd"),
            *("-append", "console=ttyAMA0 root=/dev/vda rw quiet systemd.show_status=0"),
            *(word for number, drive in enumerate(drives) for word in _drive(number, *drive)),
            *unused,
            *("-netdev", network, "-device", "virtio-net-pci,netdev=cable,romfile=,mac=52:54:00:78:00:09"),
            *("-device", "virtio-rng-pci", *(("-loadvm", loads) if loads else ())),
        ]
        enter = [*switch, "sh", "-c", _TAP, "sh"] if switch else []
        self.process = subprocess.Popen([*enter, *command], cwd=folder, stdin=subprocess.DEVNULL)
        self.network = switch

    def __enter__(self) -> Self:
        if not self.network:
            self.until("true")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cut()

    def cut(self) -> None:
        """The power goes: nothing is flushed."""
        self.process.kill()
        self.process.wait()

    def off(self) -> None:
        """Shut it down."""
        self.run("systemctl --no-block poweroff")
        self.process.wait(BOOT_S)

    def run(self, script: str, check: bool = True, within_s: float = RUN_S) -> str:
        """What a shell script says on both its outputs, run as root. Raises: OSError when the computer is not there."""
        mark = secrets.token_hex(8)
        with socket.create_connection(("127.0.0.1", self.door), timeout=within_s) as door:
            door.sendall(f"( {script}\n) </dev/null 2>&1; echo {mark} $?; exit\n".encode())
            said = b"".join(iter(lambda: door.recv(65536), b"")).decode(errors="replace")
        text, found, status = said.rpartition(mark)
        if not found:
            raise ConnectionResetError(f"the computer went while it did {script!r}: {said[-500:]}")
        assert not check or int(status) == 0, f"{script}: {text}"
        return text

    def until(self, script: str, within_s: float = BOOT_S) -> None:
        """Wait until a script ends well."""
        deadline, said = time.monotonic() + within_s, ""
        while True:
            try:
                said = self.run(f"{script} && echo well", check=False, within_s=20)
            except OSError as error:
                said = str(error)
            if said.endswith("well\n"):
                return
            words = self.console.read_text("utf-8", "replace")[-1500:] if self.console.exists() else ""
            assert self.process.poll() is None, f"the computer has ended: {words}"
            assert time.monotonic() < deadline, f"{script}: {said}\n{words}"
            time.sleep(0.2)

    def save(self, name: str) -> None:
        """Keep disk and memory as they are now under a name."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(BOOT_S)
            monitor.connect(os.path.relpath(self.folder / "monitor"))
            prompts, said = 0, b""
            while prompts < 2:  # one before the command, one after
                part = monitor.recv(65536)
                assert part, said
                said += part
                if prompts == 0 and b"(qemu) " in said:
                    prompts, said = 1, b""
                    monitor.sendall(f"savevm {name}\n".encode())
                elif said.endswith(b"\n(qemu) "):
                    prompts = 2
        assert b"Error" not in said, said


def _drive(number: int, file: str, how: str) -> tuple[str, ...]:
    return ("-drive", f"file={file},if=none,id=d{number},format={how}", "-device", f"virtio-blk-pci,drive=d{number}")


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy(of: Path, to: Path) -> Path:
    """Another computer's disk, kernel and all, in a folder that is not there yet."""
    to.mkdir(parents=True)
    for name in ("disk.qcow2", "kernel", "initrd"):
        _call("cp", "--sparse=always", "--reflink=auto", str(of / name), str(to / name))
    return to
