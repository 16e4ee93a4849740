"""Puts edge-mcp on the first partition of a card that Raspberry Pi Imager wrote, and what installs it at the first boot.

Raspberry Pi OS 13 (Trixie) is set up by cloud-init, from user-data, meta-data and network-config on that partition. Nothing of
these is touched: what is added is a script in vendor-data, which cloud-init runs beside all that user-data says (NoCloud and
vendor data in its documentation). Raspberry Pi OS 12 (Bookworm) is set up by firstrun.sh, which cmdline.txt names after
systemd.run=: a few lines are added to it, and both are written where Imager had nothing to write.
"""

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from card import partition
from card.partition import Partition
from card.settings import Trouble, Wishes

PARTS = Path(__file__).with_name("pi")
ROOT = Path(__file__).resolve().parents[2]
FOLDER = "edge-mcp"
SETTINGS = f"{FOLDER}/settings.toml"
SPARE = 4 << 20
"""Bytes that stay free."""
MB = 1_000_000

VENDOR = b"#!/bin/sh\n# Of edge-mcp: its first boot.\nexec sh /boot/firmware/edge-mcp/enable\n"
_OURS = re.compile(rb"# edge-mcp begin\n.*?# edge-mcp end\n", re.DOTALL)
LINES = b'# edge-mcp begin\nsh "${0%/*}/edge-mcp/enable" || true\n# edge-mcp end\n'
# In this order: without the script a boot that is to run it only switches the device off.
FIRST_RUN = b"#!/bin/bash\n" + LINES + b'sed -i \'s| systemd.run.*||\' "${0%/*}/cmdline.txt"\nsync\nrm -f "$0"\nexit 0\n'
RUN_IT = b" systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
_RUNS = re.compile(rb"systemd\.run=(\S+)")
_RUNS_OURS = re.compile(rb"/boot(/firmware)?/firstrun\.sh")

_SAYS = {
    "name": rb"^(hostname|fqdn):|set_hostname|/etc/hostname",
    "ssh_key": rb"^(users|user|ssh_authorized_keys):|userconf|authorized_keys",
    "wifi": rb"^\s*wifis:|set_wlan|wpa_supplicant|\.nmconnection",
    "timezone": rb"^timezone:|set_timezone|/etc/localtime",
}
"""How a card shows that its owner has told Imager this already: in YAML, or in Imager's firstrun.sh."""

_NAMED = re.compile(rb"^(hostname: *|.*set_hostname +)[\"']?([A-Za-z0-9-]{1,63})\b", re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """What starts the first boot: the files to write at the end; and the Python that the card's system has, and its name."""

    system: str
    python: str
    starts: dict[str, bytes]
    name: str = ""


def put(place: Path, wishes: Wishes, bundle: Path | None = None, *, arch: str = "aarch64", dry: bool = False) -> str:
    """Write it, to a folder or an image file, and read it back. `bundle` is one of scripts/bundle; without it one is made.
    `dry`: only say what would be written. What the device will be called is returned, if it is known. Raises: Trouble; and
    before anything is written, where it cannot be merged."""
    boot = partition.of(place)
    names = boot.names()
    plan = planned(boot, names, wishes)
    tell(place, boot, names, plan)
    if dry:
        return wishes.name or plan.name
    with made(bundle, plan.python, arch) as archive:
        installer = check(archive, plan.python, arch)
        digest = digest_of(archive)
        room(boot, archive, digest)
        files: dict[str, bytes | Path] = {
            **{path.name: path for path in PARTS.iterdir()},
            SETTINGS.rpartition("/")[2]: wishes.toml().encode(),
            "install": installer,
            "bundle.sha256": f"{digest}\n".encode(),
        }
        if boot.digest(f"{FOLDER}/bundle.tar") != digest:
            files = {"bundle.tar": archive, **files}
        say("writing it, and reading it back")
        if place.is_file() and (wishes.token or wishes.wifi_key):
            place.chmod(0o600)  # who reads it could use them
        if b"token = " in (old := earlier(boot)) or b"wifi_key = " in old:
            boot.clear(SETTINGS)  # what does not count any more could still be read
        for name, content in files.items():
            write(boot, f"{FOLDER}/{name}", content)
    # Until now nothing of this is started: a card that is drawn out early is as it was.
    for name, start in plan.starts.items():
        write(boot, name, start)
    return wishes.name or plan.name


def earlier(boot: Partition) -> bytes:
    """What was wished the last time."""
    return boot.read(SETTINGS) if boot.digest(SETTINGS) else b""


def tell(place: Path, boot: Partition, names: set[str], plan: Plan) -> None:
    """What is going to change."""
    say(f"{place}: {plan.system}")
    for name, content in plan.starts.items():
        if name not in names:
            say(f"  {name} is new")
        elif boot.read(name) == content:
            say(f"  {name} is as it should be")
        else:
            say(f"  {name} is added to; what it says already stays")
    say(
        f"  {FOLDER}/ is {'written anew' if FOLDER in names else 'new'}: edge-mcp with its models, until the first boot is over"
    )


def planned(boot: Partition, names: set[str], wishes: Wishes) -> Plan:
    """What to write for the system on the card. Raises: Trouble, where that cannot be merged with what is there."""
    if not {"cmdline.txt", "config.txt"} <= names:
        raise Trouble("this is not the first partition of a Raspberry Pi OS card: it has no cmdline.txt and no config.txt")
    issue = boot.read("issue.txt") if "issue.txt" in names else b""
    if not issue.startswith(b"Raspberry Pi reference ") or "kernel_2712.img" not in names:
        # pi-gen writes the one; the other, for a Pi 5, came with Raspberry Pi OS 12.
        raise Trouble("this is no card of Raspberry Pi OS 12 (Bookworm) or 13 (Trixie): edge-mcp would keep it from booting")
    if {"user-data", "meta-data"} <= names:
        plan, said = cloud_init(boot, names)
    else:
        plan, said = first_run(boot, names)
    for field, pattern in _SAYS.items():
        if getattr(wishes, field) and re.search(pattern, said, re.MULTILINE):
            flag = "--" + field.replace("_", "-")
            raise Trouble(
                f"the card already says what {flag} would, from Raspberry Pi Imager: leave {flag} away, and that holds"
            )
    return plan


def cloud_init(boot: Partition, names: set[str]) -> tuple[Plan, bytes]:
    """For Raspberry Pi OS 13, and what its owner has said. Raises: Trouble."""
    said = b"\n".join(without_comments(boot.read(name)) for name in ("user-data", "network-config") if name in names)
    if "vendor-data" in names and (there := boot.read("vendor-data")) != VENDOR and without_comments(there).strip():
        raise Trouble(
            "the card has a vendor-data of somebody else's, where edge-mcp would have to write its own. Take it away first"
        )
    if re.search(rb"^vendor_data:", said, re.MULTILINE):
        raise Trouble("user-data says something of vendor_data, and that is what starts edge-mcp. Take these lines away first")
    return Plan("Raspberry Pi OS 13 (Trixie), set up by cloud-init", "3.13", {"vendor-data": VENDOR}, named(said)), said


def first_run(boot: Partition, names: set[str]) -> tuple[Plan, bytes]:
    """For Raspberry Pi OS 12, and what its owner has said. Raises: Trouble."""
    line = boot.read("cmdline.txt")
    runs = _RUNS.search(line)
    system = "Raspberry Pi OS 12 (Bookworm), set up by firstrun.sh"
    if runs is None:
        if "firstrun.sh" in names:
            raise Trouble("the card has a firstrun.sh that cmdline.txt does not start. Take it away, or write the card anew")
        starts = {"firstrun.sh": FIRST_RUN, "cmdline.txt": line.rstrip() + RUN_IT + b"\n"}
        return Plan(system, "3.11", starts), b""
    if not _RUNS_OURS.fullmatch(runs[1]) or "firstrun.sh" not in names:
        raise Trouble(
            f"cmdline.txt starts {runs[1].decode('utf-8', 'replace')[:60]}, which is not Raspberry Pi Imager's firstrun.sh"
        )
    script = _OURS.sub(b"", boot.read("firstrun.sh"))
    first, _, rest = script.partition(b"\n")
    if not re.fullmatch(rb"#! ?(/usr)?/bin/(env )?(ba|da)?sh( -\w+)?", first):
        raise Trouble("firstrun.sh on the card is no script of sh or bash that edge-mcp could add its lines to")
    return Plan(system, "3.11", {"firstrun.sh": first + b"\n" + LINES + rest}, named(script)), without_comments(script)


def named(said: bytes) -> str:
    """What Imager was told that the device is called."""
    found = _NAMED.search(said)
    return found[2].decode().lower() if found else ""


def without_comments(text: bytes) -> bytes:
    """YAML or shell, without the lines that are comments: Raspberry Pi OS comes with user-data that is nothing else."""
    return b"\n".join(line for line in text.splitlines() if not line.lstrip().startswith(b"#"))


@contextmanager
def made(bundle: Path | None, python: str, arch: str) -> Iterator[Path]:
    """The bundle that is given, or one made now."""
    if bundle is not None:
        yield bundle
        return
    say("fetching edge-mcp and its wheels")
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "bundle.tar"
        command = [sys.executable, str(ROOT / "scripts/bundle"), f"--arch={arch}", f"--python={python}", f"--output={target}"]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise Trouble(
                "what is needed could not be fetched, see above. Without internet: --bundle FILE, made by scripts/bundle"
            )
        yield target


def check(bundle: Path, python: str, arch: str) -> bytes:
    """The installer in it. Raises: Trouble, where the bundle is none or not for this card."""
    try:
        with tarfile.open(bundle, "r:") as archive:
            members = {member.name.partition("/")[2]: member for member in archive.getmembers() if member.isfile()}
            read = [archive.extractfile(members[name]) for name in ("install", "arch")]
            installer, arches = [stream.read(partition.TEXT_MAX) if stream else b"" for stream in read]
    except (OSError, KeyError, tarfile.TarError):
        raise Trouble(f"{bundle} is no bundle. Make one with scripts/bundle --arch {arch} --python {python}") from None
    if arch not in arches.decode("utf-8", "replace").split() or f"requirements-{python}.txt" not in members:
        raise Trouble(f"{bundle} is for another device. Make one with scripts/bundle --arch {arch} --python {python}")
    return installer


def room(boot: Partition, bundle: Path, digest: str) -> None:
    """Raises: Trouble, where there is too little. What an earlier one takes is free only once the new one is whole."""
    needed = (0 if boot.digest(f"{FOLDER}/bundle.tar") == digest else bundle.stat().st_size) + SPARE
    if (free := boot.free()) < needed:
        raise Trouble(f"the card's first partition has {free / MB:.0f} MB free, and {needed / MB:.0f} MB are needed")


def write(boot: Partition, name: str, content: bytes | Path) -> None:
    """Raises: Trouble, where the card does not hold what was written."""
    wanted = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else digest_of(content)
    if boot.digest(name) == wanted:
        return
    boot.write(name, content)
    if boot.digest(name) != wanted:
        raise Trouble(f"the card does not hold {name} as it was written. Take another card")


def digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def say(line: str) -> None:
    print(f"edge-mcp flash: {line}", file=sys.stderr, flush=True)
