"""A control group with a limit of memory, where this user may make one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_mcp.engine.memory import fields

CGROUPS = Path("/sys/fs/cgroup")
MB = 2**20


@dataclass(frozen=True)
class Group:
    """`folder` is its folder; of version 2 or 1."""

    folder: Path
    version: int

    def running(self, command: Sequence[str]) -> list[str]:
        """The command in this group; what it starts is in it too."""
        return ["sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *command]

    @property
    def peak_mb(self) -> float:
        """The most that it ever held, files in the cache included."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        return int((self.folder / name).read_text()) / MB

    @property
    def kills(self) -> int:
        """How many processes of it the kernel has killed for lack of memory."""
        return fields(self.folder / ("memory.events" if self.version == 2 else "memory.oom_control")).get("oom_kill", 0)


@contextmanager
def limited(limit_mb: int) -> Iterator[Group | None]:
    """A group that may take so much, without swap; None where this user may not make one. It has to be empty at the end."""
    group = _made(limit_mb)
    try:
        yield group
    finally:
        if group is not None:
            group.folder.rmdir()


def _made(limit_mb: int) -> Group | None:
    own = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    memory = next((path for _, controllers, path in own if controllers == "memory"), None)
    name = f"edge-mcp-{os.getpid()}"
    if memory is None:
        group, limit, rest = Group(CGROUPS / name, 2), "memory.max", {"memory.swap.max": "0"}
    else:
        group, limit, rest = Group(CGROUPS / "memory" / memory.strip("/") / name, 1), "memory.limit_in_bytes", {}
    try:
        group.folder.mkdir()
    except OSError:
        return None
    try:
        for file, text in {limit: str(limit_mb * MB), **rest}.items():
            (group.folder / file).write_text(text)
    except OSError:
        group.folder.rmdir()
        return None
    return group
