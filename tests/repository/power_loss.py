"""A process that dies before its n-th change of the disk, for n = 1, 2 … until it lives; run by test_power_loss.py.

Prints a line for each n: what a fresh look found after it, and what the same operation did when it was repeated.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_mcp.repository.kept import is_intact
from edge_mcp.repository.sources import Dropped
from edge_mcp.repository.store import scan
from edge_mcp.repository.versions import Versions

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
MANIFEST = '[model]\nname = "net"\nversion = "{version}"\nfile = "net.onnx"\n[tool]\nname = "net"\n'


def write_model(folder: Path, version: str) -> None:
    """A model whose file says which version it is."""
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(version.encode() * 1000)
    (folder / "labels.txt").write_text(version)
    (folder / "model.toml").write_text(MANIFEST.format(version=version))


def add(folder: Path) -> None:
    """Take in what lies outside the folder of models."""
    versions = Versions(folder)
    versions.commit(versions.stage(Dropped("net", folder.parent / "new", "", False)))


def adopt(folder: Path) -> None:
    """Take in what was dropped in and is new."""
    scan([folder])


def change(folder: Path) -> None:
    """Take in what was dropped in and has changed."""
    versions = Versions(folder)
    for source in versions.candidates():
        versions.commit(versions.stage(source))


def use(folder: Path) -> None:
    """Go back to the version before."""
    Versions(folder).use("net", "1.0.0", allow_downgrade=True)


def remove(folder: Path) -> None:
    """Take the model away."""
    if Versions(folder).state().model("net").versions:
        Versions(folder).remove("net")


def refuse(folder: Path) -> None:
    """Remember that what was dropped in is not to be served."""
    versions = Versions(folder)
    for source in versions.candidates():
        versions.refuse(source, "it is not wanted")


def prepare(work: Path, operation: str) -> Path:
    """A folder of models as it is before the operation."""
    folder = work / "models"
    folder.mkdir()
    write_model(work / "new", "2.0.0")
    if operation in ("change", "use", "refuse", "remove"):
        write_model(folder / "net", "1.0.0")
        scan([folder])
    if operation in ("add",):
        write_model(work / "old", "1.0.0")
        versions = Versions(folder)
        versions.commit(versions.stage(Dropped("net", work / "old", "", False)))
    if operation in ("change", "refuse", "adopt", "use"):
        write_model(folder / "net", "2.0.0")
    if operation == "use":
        change(folder)
    return folder


def found(folder: Path) -> dict[str, Any]:
    """What is served after a start, and whether it is what it says; nothing is taken in that was not."""
    versions = Versions(folder)
    entries, problems = versions.entries(adopt=False)
    model = versions.state().model("net")
    served = [entry.manifest.model.version for entry in entries]
    kept = [(version, folder / ".edge-mcp/versions/net" / version.folder) for version in model.versions]
    return {
        "served": served,
        "problems": problems,
        "intact": all(is_intact(place, version) for version, place in kept),
        "content": [entry.file.read_bytes() == entry.manifest.model.version.encode() * 1000 for entry in entries],
    }


def run_dying(operation: Callable[[Path], None], folder: Path, before: int) -> bool:
    """Whether the operation got to its end in a process that dies before a change of the disk."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1
            if count == before:
                os.kill(os.getpid(), signal.SIGKILL)

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or event in CHANGES:
                step()

        sync = os.fsync

        def fsync(fd: Any) -> None:
            step()
            sync(fd)

        os.fsync = fsync
        sys.addaudithook(audit)
        operation(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if status != 0:
        raise SystemExit(f"the operation failed: {status}")
    return True


def main() -> None:
    """Walk the points of one operation."""
    name, work = sys.argv[1], Path(sys.argv[2])
    operation = {"add": add, "adopt": adopt, "change": change, "use": use, "remove": remove, "refuse": refuse}[name]
    done, before = False, 0
    while not done:
        before += 1
        place = work / str(before)
        place.mkdir()
        folder = prepare(place, name)
        done = run_dying(operation, folder, before)
        after = found(folder)
        operation(folder)
        entries, problems = Versions(folder).entries()
        left = [path.name for path in (folder / ".edge-mcp/staging").iterdir()]
        again = {"served": [entry.manifest.model.version for entry in entries], "problems": problems, "left": left}
        sys.stdout.write(json.dumps({"before": before, "done": done, "after": after, "again": again}) + "\n")
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
