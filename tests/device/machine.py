"""A Debian with systemd as its first process, booted in a second in namespaces of its own. It needs root."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "libstdc++6", "procps")
RELEASE = "trixie"
NEEDED = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "unshare": "util-linux", "nsenter": "util-linux"}
BUILD_S = 900.0
BOOT_S = 120.0
RUN_S = 300.0

# In mount and network namespaces of their own: nspawn wants /run for itself, and a hierarchy of control groups that systemd
# knows. The root is an overlay, so that what a machine writes is gone with it.
_BOOT = """
set -e
ip link set lo up
mount -t tmpfs tmpfs /run
umount -R -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$1"
echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3/upper,workdir=$3/work" "$3/root"
shift 3
exec "$@"
"""


class Machine:
    """One that has booted. `folder` is where its disk lies; what it says on its console is in `folder/console`."""

    def __init__(self, leader: int, folder: Path) -> None:
        self.leader = leader
        self.folder = folder

    def path(self, inside: str) -> Path:
        """Where a file of it is to be found from outside, while it runs."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def run(self, *command: str, check: bool = True, **how: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command on it as root, to its end."""
        full = ["nsenter", "--target", str(self.leader), "--all", "--wdns=/", "--", "env", "-i", _PATH, *command]
        ended = subprocess.run(
            full, capture_output=True, text=True, timeout=RUN_S, stdin=subprocess.DEVNULL, check=False, **how
        )
        if check:
            assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"
        return ended

    def outside(self, *command: str, **how: Any) -> "subprocess.Popen[str]":
        """Start a program of this machine in its network."""
        return subprocess.Popen(["nsenter", "--target", str(self.leader), "--net", "--", *command], text=True, **how)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, as systemctl shows them."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(names)}").stdout.splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def until(self, unit: str, within_s: float = 60.0, **wanted: str) -> dict[str, str]:
        """Wait until a unit's properties are these."""
        deadline = time.monotonic() + within_s
        while (seen := self.show(unit, *wanted)) != wanted:
            assert time.monotonic() < deadline, f"{unit}: {seen}, not {wanted}\n{self.journal(unit)}"
            time.sleep(0.1)
        return seen

    def journal(self, unit: str) -> str:
        """What a unit has logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", check=False).stdout


_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def root() -> Path:
    """A file tree of Debian that has never booted, made once and kept in the cache."""
    assert os.geteuid() == 0, "this test boots a machine, for which it has to be root"
    return debian("--variant=minbase", f"--include={','.join(PACKAGES)}")


def debian(*options: str) -> Path:
    """The file tree that mmdebstrap makes with these options, made once and kept in the cache: nobody may write there."""
    needed = NEEDED if "--arch=arm64" not in options else {**NEEDED, "qemu-aarch64-static": "qemu-user-static"}
    missing = sorted({package for program, package in needed.items() if shutil.which(program) is None})
    assert not missing, f"this test needs: apt-get install --no-install-recommends {' '.join(missing)}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-mcp-tests"
    made = cache / f"{RELEASE}-{hashlib.sha256(' '.join(options).encode()).hexdigest()[:12]}"
    if not made.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            target = Path(temporary) / "root"
            command = ["mmdebstrap", *options, RELEASE, str(target), _mirror()]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
            assert ended.returncode == 0, ended.stderr[-2000:]
            target.rename(made)
    return made


@contextmanager
def booted(
    folder: Path, files: Mapping[str, Path] = {}, base: Path | None = None, arguments: Sequence[str] = ()
) -> Iterator[Machine]:
    """A machine whose disk is in `folder`, with `files` of this one put into it. It is switched off at the end.
    `base`: what `debian` made, if it is to be another system than that of `root`. `arguments`: those of the kernel."""
    with _started(folder, files, base, arguments) as process:
        machine = Machine(_leader(process, folder), folder)
        yield machine
        os.kill(machine.leader, 38)  # SIGRTMIN+4: switch off
        process.wait(BOOT_S)


def ran(folder: Path, files: Mapping[str, Path] = {}, base: Path | None = None, arguments: Sequence[str] = ()) -> str:
    """Boot a machine that switches itself off; what it said."""
    with _started(folder, files, base, arguments) as process:
        assert process.wait(BOOT_S) == 0, (folder / "console").read_text("utf-8", "replace")[-2000:]
    return (folder / "console").read_text("utf-8", "replace")


@contextmanager
def _started(
    folder: Path, files: Mapping[str, Path], base: Path | None, arguments: Sequence[str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A machine whose disk may have been in `folder` before."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir(exist_ok=True)
    for inside, file in files.items():
        target = folder / "upper" / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if file.is_dir() else shutil.copy2)(file, target)
    group = f"edge-mcp-{os.getpid()}-{folder.name}"
    namespaces = ("unshare", "--mount", "--net", "--propagation=private", "sh", "-c", _BOOT, "sh")
    nspawn = ("systemd-nspawn", "--quiet", f"--directory={folder}/root", "--register=no", "--keep-unit", "--console=read-only")
    with (folder / "console").open("wb") as console:
        process = subprocess.Popen(
            [
                *(*namespaces, group, str(base or root()), str(folder)),
                *(*nspawn, "--boot", "systemd.journald.forward_to_console=1", *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        _remove_groups(group)


def _leader(process: "subprocess.Popen[bytes]", folder: Path) -> int:
    """The machine's first process, once it has booted."""
    deadline = time.monotonic() + BOOT_S
    while True:
        said = (folder / "console").read_text("utf-8", "replace")[-2000:]
        assert process.poll() is None, f"the machine did not boot: {said}"
        assert time.monotonic() < deadline, f"the machine has not booted: {said}"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            state = Machine(int(child), folder).run("systemctl", "is-system-running", check=False).stdout.strip()
            if state in ("running", "degraded"):
                return int(child)
        time.sleep(0.1)


def _mirror() -> str:
    """Where this machine gets its own Debian packages from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.splitlines()
    return listed[0]


def _remove_groups(name: str) -> None:
    """The control groups that the machine left: they are seen below wherever the second version is mounted here."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    for top in [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]:
        folders = [folder for folder, _, _ in os.walk(top / name, topdown=False)]
        for folder in folders:
            Path(folder).rmdir()
