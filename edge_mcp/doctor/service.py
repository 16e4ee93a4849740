"""The service: whether systemd has it, how often it ended, and whether its unit is the one that came with it."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_mcp.load.doctor import Device, Finding

UNITS = ("edge-mcp.service", "edge-mcp-gateway.service")
PATIENCE_S = 10.0
_SHIPPED = "opt/edge-mcp/current/units"
"""What the installer put there beside the program, which nobody changes."""
_OWN, _PACKAGED = "etc/systemd/system", "usr/lib/systemd/system"
_NEWER = "since-254.conf"
_PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result", "ExecMainStatus", "StatusText"),
    *("NeedDaemonReload", "TriggeredBy"),
)


def _run(words: Sequence[str]) -> str | None:
    try:
        ended = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False, env=_ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.decode("utf-8", "replace") if ended.returncode == 0 else None


_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": ""}


@dataclass(frozen=True, slots=True)
class Programs:
    """`run` gives what a program says, or None where it is not there or fails."""

    run: Callable[[Sequence[str]], str | None] = _run


def service(device: Device, programs: Programs) -> Iterator[Finding]:
    """Nothing where systemd is not the first process."""
    if not (device.root / "run/systemd/system").is_dir():
        return
    for unit in UNITS:
        said = programs.run(("systemctl", "show", unit, f"--property={','.join(_PROPERTIES)}"))
        if said is None:
            cost = "whether the service runs is not known"
            yield Finding("service", "note", "systemctl does not answer", cost, "sudo edge-mcp doctor")
            return
        seen = dict(line.partition("=")[::2] for line in said.splitlines())
        name = "service" if unit == UNITS[0] else "gateway service"
        if seen.get("LoadState") == "not-found":
            if unit == UNITS[0]:
                cost = "edge-mcp runs only while somebody has started it"
                yield Finding(name, "note", "not installed", cost, "scripts/install, where it is to run always")
            continue
        if unit != UNITS[0] and seen.get("ActiveState") == "inactive" and seen.get("UnitFileState") != "enabled":
            continue  # it comes with every installation, and few want it
        yield _state(name, unit, seen, programs)
        yield from _drift(device, name, unit, seen)


def _state(name: str, unit: str, seen: dict[str, str], programs: Programs) -> Finding:
    state, restarts = seen.get("ActiveState", ""), int("0" + seen.get("NRestarts", "").strip())
    look = f"journalctl --unit={unit} --priority=warning"
    ended = f"{seen.get('Result')}, status {seen.get('ExecMainStatus')}"
    words = programs.run(("journalctl", f"--unit={unit}", "--priority=warning", "--lines=1", "--output=cat", "--no-pager"))
    last = f"; the last warning: {words.strip().splitlines()[-1][:200]}" if words and words.strip() else ""
    if state == "failed":
        return Finding(name, "problem", f"failed: {ended}{last}", "nobody is served", f"{look}; then: systemctl restart {unit}")
    if state == "activating":
        found = f"starting, for the {restarts + 1}. time{last}" if restarts else "starting"
        return Finding(name, "problem" if restarts else "note", found, "nobody is served meanwhile", look)
    if state == "inactive" and "edge-mcp.socket" in seen.get("TriggeredBy", ""):
        return Finding(name, "ok", "asleep until somebody connects")
    if state not in ("active", "reloading"):
        enabled = "systemctl start" if seen.get("UnitFileState") == "enabled" else "systemctl enable --now"
        return Finding(name, "problem", f"{state or 'in no state'}{last}", "nobody is served", f"{enabled} {unit}")
    told = f"active: {seen['StatusText']}" if seen.get("StatusText") else "active"
    if restarts:
        found = f"{told}; started again {restarts} times by itself{last}"
        return Finding(name, "note", found, "calls in flight were lost each time", look)
    return Finding(name, "ok", told)


def _drift(device: Device, name: str, unit: str, seen: dict[str, str]) -> Iterator[Finding]:
    """What is installed, against what was shipped; and what the owner has added."""
    label = name.replace("service", "unit")
    installed, packaged = device.root / _OWN / unit, device.root / _PACKAGED / unit
    shipped = packaged if packaged.is_file() else device.root / _SHIPPED / unit
    folders = [device.root / top / f"{unit}.d" for top in (_OWN, "run/systemd/system")]
    added = [file for folder in folders for file in sorted(folder.glob("*.conf")) if not _is_ours(device, file)]
    more = f"; with {', '.join(_shown(device, file) for file in added)}" if added else ""
    if seen.get("NeedDaemonReload") == "yes":
        do = f"systemctl daemon-reload && systemctl restart {unit}"
        yield Finding(label, "note", f"changed since systemd read it{more}", "the change has no effect", do)
    elif not shipped.is_file():
        found, cost = f"what was shipped is not there to compare{more}", "whether it was changed is not known"
        yield Finding(label, "note", found, cost, "install again")
    elif installed.is_file() and not _same(installed, shipped):
        cost, do = "upgrades pass it by, or undo it", f"move what was changed into `systemctl edit {unit}`, then install again"
        yield Finding(label, "note", f"{_shown(device, installed)} is not as shipped{more}", cost, do)
    else:
        yield Finding(label, "ok", f"as shipped{more}")


def _is_ours(device: Device, file: Path) -> bool:
    return file.name == _NEWER and _same(file, device.root / _SHIPPED / _NEWER)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _shown(device: Device, file: Path) -> str:
    return f"/{file.relative_to(device.root)}"
