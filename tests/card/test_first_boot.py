"""A card of Raspberry Pi Imager gets edge-mcp, and keeps all that its owner has said. That it boots is proved in tests/boot."""

import codecs
import hashlib
import io
import os
import pty
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from card import first_boot, partition
from card.settings import Trouble, Wishes

TOKEN, OTHER_TOKEN = "0123456789abcdef", "fedcba9876543210"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBtixYkNXmima08a0eACUQlWQW5D6LJP3hV7IEVmNr50 me@home"
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=9710ec8c-02 rootfstype=ext4 fsck.repair=yes rootwait quiet"

# As Raspberry Pi Imager 2 writes them for Raspberry Pi OS 13.
META_DATA = "dsmode: local\ninstance_id: rpios-image\n"
USER_DATA = """\
#cloud-config
manage_resolv_conf: false

hostname: attic
manage_etc_hosts: true
timezone: Europe/London
users:
- name: frida
  groups: users,adm,dialout,audio,netdev,video,plugdev,cdrom,games,input,gpio,spi,i2c,render,sudo
  shell: /bin/bash
  lock_passwd: true
  ssh_authorized_keys:
    - ssh-ed25519 AAAA frida@home
  sudo: ALL=(ALL) NOPASSWD:ALL
ssh_pwauth: false
runcmd:
- [ touch, /root/theirs ]
"""
NETWORK = 'network:\n  version: 2\n  wifis:\n    wlan0:\n      access-points:\n        "home":\n          password: "abab"\n'
NOTHING_SAID = "#cloud-config\n# hostname: raspberrypi\n#users:\n# - name: pi\n"

# As Imager 1 writes it for Raspberry Pi OS 12, without what is done on systems without imager_custom.
RUN = " systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
FIRST_RUN = """\
#!/bin/bash

set +e

/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname attic
/usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh -k 'ssh-ed25519 AAAA frida@home'
/usr/lib/userconf-pi/userconf 'frida' '$5$abc$def'
rm -f /boot/firstrun.sh
sed -i 's| systemd.run.*||g' /boot/cmdline.txt
exit 0
"""


def bundle(folder: Path, arch: str = "aarch64", python: str = "3.13", size: int = 1000) -> Path:
    made = folder / "bundle.tar"
    content = {"install": b"#!/usr/bin/env python3\n", "arch": f"{arch}\n".encode(), "wheels/some.whl": os.urandom(size)}
    with tarfile.open(made, "w") as archive:
        for name, data in {**content, f"requirements-{python}.txt": b"x\n"}.items():
            member = tarfile.TarInfo(f"edge-mcp-0/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made


@pytest.fixture(params=["folder", "image", "partition"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A first partition of 8 MB: mounted, in an image of a card, or on its own."""
    if request.param == "folder":
        (tmp_path / "bootfs").mkdir()
        yield tmp_path / "bootfs"
        return
    assert shutil.which("mcopy"), "this test needs: apt-get install --no-install-recommends mtools"
    image = tmp_path / "card.img"
    start = 0 if request.param == "partition" else 1 << 20
    with image.open("wb") as stream:
        stream.truncate(start + (8 << 20))
        if start:
            entry = bytes(4) + b"\x0c" + bytes(3) + (start // 512).to_bytes(4, "little") + (8 << 11).to_bytes(4, "little")
            stream.seek(446)
            stream.write(bytes(16) + entry + bytes(32) + b"\x55\xaa")
    subprocess.run(["mformat", "-i", f"{image}@@{start}", "-T", str(8 << 11), "-h", "16", "-s", "32", "::"], check=True)
    yield image


def card(place: Path, **files: str) -> partition.Partition:
    """With these files, a `_` for each `-` and an `__` for a dot in their names."""
    boot = partition.of(place)
    boot.write("kernel_2712.img", b"of a Pi 5")
    issue = "Raspberry Pi reference 2025-12-04\nGenerated using pi-gen\n"
    always = {"config__txt": "arm_64bit=1\n", "cmdline__txt": f"{CMDLINE}\n", "issue__txt": issue}
    for name, text in {**always, **files}.items():
        boot.write(name.replace("__", ".").replace("_", "-"), text.encode())
    return boot


def content(boot: partition.Partition) -> dict[str, bytes]:
    return {name: boot.read(name) for name in sorted(boot.names()) if name != "edge-mcp"}


def test_what_cloud_init_was_told_stays(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boot = card(place, user_data=USER_DATA, meta_data=META_DATA, network_config=NETWORK)
    before, packed = content(boot), bundle(tmp_path)
    assert first_boot.put(place, Wishes(token=TOKEN), packed) == "attic"
    assert content(boot) == {**before, "vendor-data": first_boot.VENDOR}
    assert "vendor-data is new" in capsys.readouterr().err
    assert boot.digest("edge-mcp/bundle.tar") == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert boot.read("edge-mcp/bundle.sha256").decode().strip() == boot.digest("edge-mcp/bundle.tar")
    assert tomllib.loads(boot.read("edge-mcp/settings.toml").decode()) == {"user": "edge", "token": TOKEN}
    for name in ("enable", "first-boot", "edge-mcp-first-boot.service"):
        assert boot.read(f"edge-mcp/{name}") == (ROOT / "scripts/card/pi" / name).read_bytes()
    assert boot.read("edge-mcp/install").startswith(b"#!/usr/bin/env python3")
    # Once more, with another token: the same, and that is new.
    after = content(boot)
    first_boot.put(place, Wishes(token=OTHER_TOKEN), packed)
    assert content(boot) == after
    assert "vendor-data is as it should be" in capsys.readouterr().err
    assert OTHER_TOKEN.encode() in boot.read("edge-mcp/settings.toml")
    if place.is_file():
        raw = place.read_bytes()
        assert (OTHER_TOKEN.encode() in raw, TOKEN.encode() in raw, place.stat().st_mode & 0o777) == (True, False, 0o600)


def test_what_first_run_does_is_still_done(place: Path, tmp_path: Path) -> None:
    boot = card(place, firstrun__sh=FIRST_RUN, cmdline__txt=CMDLINE + RUN + "\n")
    before = content(boot)
    for _ in range(2):
        assert first_boot.put(place, Wishes(), bundle(tmp_path, python="3.11")) == "attic"
        script = FIRST_RUN.replace("#!/bin/bash\n", "#!/bin/bash\n" + first_boot.LINES.decode())
        assert content(boot) == {**before, "firstrun.sh": script.encode()}


def test_without_imagers_settings_there_is_a_first_run_too(place: Path, tmp_path: Path) -> None:
    boot = card(place)
    for _ in range(2):
        assert first_boot.put(place, Wishes(name="hall"), bundle(tmp_path, python="3.11")) == "hall"
        assert boot.read("cmdline.txt").decode() == CMDLINE + RUN.replace("/boot/", "/boot/firmware/") + "\n"
        assert boot.read("firstrun.sh") == first_boot.FIRST_RUN


def test_first_run_takes_itself_away(tmp_path: Path) -> None:
    (tmp_path / "edge-mcp").mkdir()
    (tmp_path / "edge-mcp/enable").write_text(f"touch {tmp_path}/enabled\nfalse\n")
    (tmp_path / "firstrun.sh").write_bytes(first_boot.FIRST_RUN)
    (tmp_path / "cmdline.txt").write_bytes(CMDLINE.encode() + first_boot.RUN_IT + b"\n")
    subprocess.run(["bash", str(tmp_path / "firstrun.sh")], check=True)
    assert (tmp_path / "enabled").exists()
    assert not (tmp_path / "firstrun.sh").exists()
    assert (tmp_path / "cmdline.txt").read_text() == CMDLINE + "\n"


@pytest.mark.parametrize(
    ("wishes", "flag"),
    [
        (Wishes(name="hall"), "--name"),
        (Wishes(ssh_key=KEY), "--ssh-key"),
        (Wishes(timezone="Europe/Berlin"), "--timezone"),
        (Wishes(wifi="net", country="DE"), "--wifi"),
    ],
)
def test_what_was_said_to_imager_holds(wishes: Wishes, flag: str, tmp_path: Path) -> None:
    (tmp_path / "bootfs").mkdir()
    boot = card(tmp_path / "bootfs", user_data=USER_DATA, meta_data=META_DATA, network_config=NETWORK)
    before = content(boot)
    with pytest.raises(Trouble, match=f"leave {flag} away"):
        first_boot.put(tmp_path / "bootfs", wishes, bundle(tmp_path))
    assert content(boot) == before and "edge-mcp" not in boot.names()
    # Where it was not said, it is ours to say.
    boot = card(tmp_path / "bootfs", user_data=NOTHING_SAID, meta_data=META_DATA, network_config="#\n")
    first_boot.put(tmp_path / "bootfs", wishes, bundle(tmp_path))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"user_data": NOTHING_SAID, "meta_data": "", "vendor_data": "#!/bin/sh\ntrue\n"}, "vendor-data of somebody else's"),
        ({"user_data": "#cloud-config\nvendor_data: {enabled: false}\n", "meta_data": ""}, "says something of vendor_data"),
        ({"user_data": NOTHING_SAID, "meta_data": "", "issue__txt": "Ubuntu\n"}, "no card of Raspberry Pi OS 12"),
        ({"firstrun__sh": FIRST_RUN}, "firstrun.sh that cmdline.txt does not start"),
        ({"cmdline__txt": f"{CMDLINE} systemd.run=/sbin/other\n"}, "cmdline.txt starts /sbin/other, which is not"),
        ({"cmdline__txt": CMDLINE + RUN + "\n"}, "which is not Raspberry Pi Imager's"),
        ({"firstrun__sh": "#!/usr/bin/python3\n", "cmdline__txt": CMDLINE + RUN + "\n"}, "no script of sh or bash"),
        (
            {"firstrun__sh": "#!/bin/sh\n" + "#" * (1 << 20), "cmdline__txt": CMDLINE + RUN},
            "firstrun.sh on the card is too long",
        ),
    ],
)
def test_what_cannot_be_merged_is_left_alone(files: dict[str, str], words: str, tmp_path: Path) -> None:
    (tmp_path / "bootfs").mkdir()
    boot = card(tmp_path / "bootfs", **files)
    before = {name: boot.digest(name) for name in boot.names()}
    with pytest.raises(Trouble, match=words) as told:
        first_boot.put(tmp_path / "bootfs", Wishes(), bundle(tmp_path))
    assert "\n" not in str(told.value)
    assert {name: boot.digest(name) for name in boot.names()} == before


def test_an_older_raspberry_pi_os_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bootfs").mkdir()
    boot = card(tmp_path / "bootfs", firstrun__sh=FIRST_RUN, cmdline__txt=CMDLINE + RUN + "\n")
    (tmp_path / "bootfs/kernel_2712.img").unlink()
    with pytest.raises(Trouble, match="would keep it from booting"):
        first_boot.put(tmp_path / "bootfs", Wishes(), bundle(tmp_path, python="3.11"))
    assert "edge-mcp" not in boot.names()


def test_what_is_no_card_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(bytes(4096))
    (tmp_path / "disk").write_bytes(bytes(510) + b"\x55\xaa" + bytes(4096))
    for name, words in {
        "folder": "no cmdline.txt and no config.txt",
        "file": "is no image of a card",
        "disk": "has no FAT partition",
        "none": "there is no",
    }.items():
        with pytest.raises(Trouble, match=words):
            first_boot.put(tmp_path / name, Wishes(), bundle(tmp_path))


def test_a_bundle_for_another_device_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "bootfs").mkdir()
    card(tmp_path / "bootfs", user_data=NOTHING_SAID, meta_data=META_DATA)
    for made in (bundle(tmp_path, arch="x86_64"), bundle(tmp_path, python="3.11")):
        with pytest.raises(Trouble, match=r"is for another device\. Make one with scripts/bundle --arch aarch64 --python 3.13"):
            first_boot.put(tmp_path / "bootfs", Wishes(), made)
    made.write_bytes(b"no tar")
    with pytest.raises(Trouble, match="is no bundle"):
        first_boot.put(tmp_path / "bootfs", Wishes(), made)


@pytest.mark.parametrize("place", ["image"], indirect=True)
def test_a_card_that_is_full_is_told_before(place: Path, tmp_path: Path) -> None:
    boot = card(place, user_data=NOTHING_SAID, meta_data=META_DATA)
    before = content(boot)
    with pytest.raises(Trouble, match=r"first partition has 8 MB free, and 9 MB are needed"):
        first_boot.put(place, Wishes(), bundle(tmp_path, size=5_000_000))
    assert content(boot) == before


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_it_can_be_asked_what_would_be_written(place: Path, tmp_path: Path) -> None:
    boot = card(place, user_data=USER_DATA, meta_data=META_DATA)
    before = content(boot)
    ended = flash("first-boot", str(place), "--dry-run")
    assert ended.returncode == 0 and "vendor-data is new" in ended.stderr and ended.stdout == ""
    assert content(boot) == before
    ended = flash("first-boot", str(place), "--name", "hall")
    assert ended.returncode == 1 and "leave --name away" in ended.stderr.splitlines()[-1]


def flash(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(ROOT / "scripts/flash"), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_at_the_end_it_says_how_to_find_it(place: Path, tmp_path: Path) -> None:
    assert shutil.which("qrencode"), "this test needs: apt-get install --no-install-recommends qrencode"
    card(place, user_data=NOTHING_SAID, meta_data=META_DATA)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    packed = bundle(tmp_path)
    command = ["first-boot", str(place), "--bundle", str(packed), "--name", "hall", "--token-file", str(tmp_path / "token")]
    ended = flash(*command)
    assert ended.returncode == 0, ended.stderr
    url = "https://hall.local:8765/mcp"
    assert "edge-mcp discover" in ended.stdout and url in ended.stdout and "claude mcp add" in ended.stdout
    assert TOKEN not in ended.stdout + ended.stderr and "█" not in ended.stdout
    # In a terminal there is a code to scan as well.
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, str(ROOT / "scripts/flash"), *command], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = "".join(said(ours))
    assert process.returncode == 0
    assert "█" in seen and "mcpServers" in seen and TOKEN not in seen


def said(terminal: int) -> Iterator[str]:
    """What a program writes to its terminal, to its end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    while True:
        try:
            yield decoder.decode(os.read(terminal, 65536))
        except OSError:  # how the end is told
            os.close(terminal)
            return
