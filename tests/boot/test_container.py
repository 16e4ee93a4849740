"""The container: built by buildah from scripts/image/Containerfile on a Debian of this machine, and run by crun as Kubernetes
would: nobody's user, a root that is read-only, no capability, nothing that could give one."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.installed import say
from tests.device.machine import root

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:18765"
TOKEN = "a-token-for-the-container"  # noqa: S105 - of this test alone
TAG = "localhost/edge-mcp-tests"
BUILD_S = 1200.0
START_S = 60.0
# In a mount namespace of its own, since crun wants a hierarchy of control groups of one kind.
RUN = "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec crun --cgroup-manager=disabled "


class Builder:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        settings = folder / "storage.conf"
        settings.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n')
        self._environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(settings), "BUILDAH_ISOLATION": "chroot"}

    def run(self, *arguments: str) -> str:
        ended = subprocess.run(
            ["buildah", *arguments], env=self._environment, capture_output=True, text=True, timeout=BUILD_S, check=False
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout.strip()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    missing = [program for program in ("buildah", "crun") if shutil.which(program) is None]
    assert not missing, f"this test needs: apt-get install --no-install-recommends {' '.join(missing)}"
    builder = Builder(tmp_path_factory.mktemp("images"))
    base = builder.run("from", "scratch")
    builder.run("add", "--quiet", base, str(root()), "/")
    builder.run("commit", "--quiet", "--rm", base, "localhost/base")
    here = [f"--volume={path}:{path}:ro" for path in ("/etc/pip.conf", "/etc/ssl/certs") if Path(path).exists()]
    image = ROOT / "scripts/image/Containerfile"
    builder.run(
        *("build", "--pull-never", "--network=host", "--build-arg=BASE=localhost/base", f"--tag={TAG}", *here),
        *(f"--file={image}", f"--ignorefile={image}.dockerignore", str(ROOT)),
    )
    return builder


@pytest.fixture(scope="module")
def running(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The container's first process, once the server answers."""
    folder = tmp_path_factory.mktemp("container")
    (folder / "config.json").write_text(json.dumps(specification(builder, folder)))
    name = f"edge-mcp-{os.getpid()}"
    run = f"{RUN} --root {folder}/crun run --bundle {folder} --pid-file {folder}/pid {name}"
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "sh", "-c", run], stdout=said, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_S
        while "listening on" not in (folder / "said").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "said").read_text()
            time.sleep(0.1)
        first = int((folder / "pid").read_text())
        yield first
        os.kill(first, signal.SIGTERM)
        assert process.wait(START_S) == 0, (folder / "said").read_text()
    finally:
        process.kill()
        process.wait()


def specification(builder: Builder, folder: Path) -> dict[str, object]:
    """What an OCI runtime is told, with what the image says of itself."""
    image = json.loads(builder.run("inspect", "--type=image", TAG))["OCIv1"]["config"]
    user, group = map(int, image["User"].split(":"))
    for part in ("state", "token"):
        (folder / part).mkdir()
    os.chown(folder / "state", user, group)
    token = folder / "token/token"  # as Kubernetes mounts a secret: root's, and of the pod's group
    token.write_text(TOKEN)
    os.chown(token, 0, group)
    token.chmod(0o440)
    memory = {"type": "tmpfs", "source": "tmpfs"}
    own = {
        "/dev": ["nosuid", "mode=755"],
        "/dev/shm": ["nosuid", "nodev", "mode=1777"],
        "/tmp": ["nosuid", "nodev", "mode=1777"],
    }
    says = dict(variable.split("=", 1) for variable in image["Env"])
    binds = {"/sys": ("/sys", "ro"), says["STATE_DIRECTORY"]: (str(folder / "state"), "rw")}
    binds[says["CREDENTIALS_DIRECTORY"]] = (str(folder / "token"), "ro")
    return {
        "ociVersion": "1.0.2",
        "root": {"path": builder.run("mount", builder.run("from", "--pull-never", TAG)), "readonly": True},
        "process": {
            "user": {"uid": user, "gid": group},
            "args": image["Entrypoint"] + image["Cmd"],
            "env": [*image["Env"], f"EDGE_MCP_LISTEN={ADDRESS}"],
            "cwd": image["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            *({"destination": path, **memory, "options": options} for path, options in own.items()),
            *(
                {"destination": inside, "type": "bind", "source": outside, "options": ["rbind", how]}
                for inside, (outside, how) in binds.items()
            ),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }


def test_a_tool_answers_as_nobody_on_a_root_that_is_read_only(running: int, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    command = [sys.executable, "-m", "edge_mcp", "call", "--url", f"wss://{ADDRESS}/mcp", "--token-file", str(token), "--json"]
    own = os.environ | {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    page = ROOT / "tests/fixtures/page.png"
    for call in (["detect_language", "text=Wo ist der Bahnhof, bitte?"], ["read_text", f"image=@{page}"]):
        ended = subprocess.run([*command, *call], env=own, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{running}/status").read_text().splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
    mounts = [line.split() for line in Path(f"/proc/{running}/mounts").read_text().splitlines()]
    assert next(mount[3] for mount in mounts if mount[1] == "/").split(",")[0] == "ro"
    say(f"the server of the container: {status['VmRSS'].strip()}, at most {status['VmHWM'].strip()}")


def test_health_needs_no_token(running: int) -> None:
    unknown = ssl.create_default_context()
    unknown.check_hostname, unknown.verify_mode = False, ssl.CERT_NONE  # as kubelet does
    with urllib.request.urlopen(f"https://{ADDRESS}/health", context=unknown, timeout=10) as answer:
        assert json.load(answer)["ready"]


def test_no_compiler_is_in_the_image(builder: Builder) -> None:
    mounted = Path(builder.run("mount", builder.run("from", "--pull-never", TAG)))
    assert not [name for name in ("gcc", "cc", "g++", "clang", "ld", "make") if (mounted / "usr/bin" / name).exists()]
    layer = sum(file.stat().st_size for file in (mounted / "opt/edge-mcp").rglob("*") if file.is_file())
    say(f"what the image adds to its base: {layer / 1e6:.0f} MB")
