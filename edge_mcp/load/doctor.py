"""What may be wrong with a board and what runs on it, what that costs, and what to do about it.

Imports no runtime: one that this processor cannot run would end the process.
"""

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from edge_mcp.load.monitor import Monitor
from edge_mcp.load.signals import FREQUENCY_CAPPED, SOFT_LIMIT, THROTTLED, UNDER_VOLTAGE
from edge_mcp.sensors.settings import Sensor

Level = Literal["ok", "note", "problem"]
PACKAGES = {
    "onnxruntime": ".onnx models",
    "ai-edge-litert": ".tflite models",
    "numpy": "all models",
    "pillow": "pictures",
    "soundfile": "sounds",
}
_READERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "camera": (
        ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
        "install the extra camera, or pip install opencv-python-headless",
    ),
    "microphone": (("sounddevice",), "install the extra microphone, or pip install sounddevice; and apt install libportaudio2"),
    "picamera2": (
        ("picamera2",),
        "apt install python3-picamera2, and make edge-mcp's environment with --system-site-packages",
    ),
}
"""Kinds of sensors that need an optional package: its names, and how it comes."""
_COMMAND_LINE = "/boot/firmware/cmdline.txt"
_NEEDED = {"aarch64": {"asimd"}, "x86_64": {"sse4_1", "ssse3"}}
"""Features without which the runtimes' builds end in an illegal instruction."""
_FAST = {"aarch64": ("asimddp", "dot products"), "x86_64": ("avx2", "AVX2")}
_HAPPENED = {
    UNDER_VOLTAGE: "the supply voltage was too low",
    FREQUENCY_CAPPED: "the processor's frequency was limited",
    THROTTLED: "the processor was slowed down",
    SOFT_LIMIT: "the soft temperature limit was reached",
}
_LEAST_MB = 150


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and where it is not well what it costs and what to do."""

    name: str
    level: Level
    found: str
    cost: str = ""
    do: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """Where to look: the root of /proc and /sys, the machine's kind, sizes in bytes, and where data is kept."""

    root: Path
    machine: str
    pointer_bytes: int
    page_bytes: int
    data: Path
    now: float
    installed: Callable[[str], str | None]

    @classmethod
    def here(cls, data: Path) -> "Device":
        """This device."""
        return cls(
            Path("/"), os.uname().machine, struct.calcsize("P"), os.sysconf("SC_PAGE_SIZE"), data, time.time(), _installed
        )

    def text(self, path: str) -> str | None:
        """A file below the root, or None."""
        try:
            return (self.root / path).read_text("utf-8", "replace")
        except OSError:
            return None


def examine(device: Device, sensors: Mapping[str, Sensor] | None = None) -> list[Finding]:
    """Look at the board; what this device does not tell is left out, or said to be absent where that costs something."""
    return [
        *_userland(device),
        *_processor(device),
        *_pages(device),
        *_packages(device),
        *_pressure(device),
        *_cgroup(device),
        *_throttling(device),
        *_temperature(device),
        *_memory(device),
        *_sensors(device, sensors or {}),
    ]


def _userland(device: Device) -> Iterator[Finding]:
    bits = device.pointer_bytes * 8
    if bits == 64 and device.machine in _NEEDED:
        yield Finding("userland", "ok", f"64 bits, {device.machine}")
    elif bits == 32:
        yield Finding(
            "userland",
            "problem",
            f"32 bits on {device.machine}",
            "there are no builds of the runtimes: no model runs",
            "flash a 64-bit system (Raspberry Pi OS (64-bit) in Raspberry Pi Imager)",
        )
    else:
        yield Finding(
            "userland", "problem", device.machine, "there are no builds of the runtimes: no model runs", "use 64-bit ARM or x86"
        )


def _processor(device: Device) -> Iterator[Finding]:
    lines = (line.partition(":") for line in (device.text("proc/cpuinfo") or "").splitlines())
    features = {word for name, _, value in lines if name.strip() in ("Features", "flags") for word in value.split()}
    if not features or device.machine not in _NEEDED:
        return
    if missing := _NEEDED[device.machine] - features:
        yield Finding(
            "processor",
            "problem",
            f"lacks {', '.join(sorted(missing))}",
            "the runtimes end with an illegal instruction",
            "use a newer board, or another virtual machine type",
        )
        return
    feature, words = _FAST[device.machine]
    if feature in features:
        yield Finding("processor", "ok", f"has {words}")
    else:
        yield Finding(
            "processor", "note", f"has no {words}", "int8 models are about as fast as float ones here, and only smaller"
        )


def _pages(device: Device) -> Iterator[Finding]:
    kib = device.page_bytes // 1024
    if kib <= 16:
        yield Finding("page size", "ok", f"{kib} KiB")
    else:
        yield Finding(
            "page size", "note", f"{kib} KiB", "some builds of libraries do not load", "boot a kernel with 4 or 16 KiB pages"
        )


def _packages(device: Device) -> Iterator[Finding]:
    for name, needed_for in PACKAGES.items():
        if found := device.installed(name):
            yield Finding(f"package {name}", "ok", found)
        else:
            yield Finding(
                f"package {name}", "note", "not installed", f"no {needed_for}", "run scripts/setup, or pip install it"
            )


def _pressure(device: Device) -> Iterator[Finding]:
    if device.text("proc/pressure/memory") is not None:
        yield Finding("pressure (PSI)", "ok", "on")
    else:
        yield Finding(
            "pressure (PSI)",
            "note",
            "off",
            "a shortage of memory is noticed later, by what is available only",
            f"add psi=1 to the one line of {_COMMAND_LINE}, and reboot",
        )


def _cgroup(device: Device) -> Iterator[Finding]:
    controllers = device.text("sys/fs/cgroup/cgroup.controllers")
    if controllers is None:
        return
    if "memory" in controllers.split():
        yield Finding("memory cgroup", "ok", "on")
    else:
        yield Finding(
            "memory cgroup",
            "note",
            "off",
            "a limit such as MemoryMax= of the service has no effect",
            f"add cgroup_enable=memory to the one line of {_COMMAND_LINE}, and reboot",
        )


def _throttling(device: Device) -> Iterator[Finding]:
    found = Monitor(device.root).sample().load.throttling
    if found is None:
        return
    if not found.since_boot:
        yield Finding("throttling", "ok", "none since boot")
        return
    happened = "; ".join(text for bit, text in _HAPPENED.items() if bit in found.since_boot)
    weak = UNDER_VOLTAGE in found.since_boot
    hot = found.since_boot & {THROTTLED, SOFT_LIMIT, FREQUENCY_CAPPED}
    advice = [
        *(["use the board's own power supply, and a short cable"] if weak else []),
        *(["give it a heat sink or a fan"] if hot and not weak else []),
    ]
    level: Level = "problem" if found.now else "note"
    when = "now" if found.now else "since boot"
    yield Finding("throttling", level, f"{when}: {happened}", "models run up to twice as long", "; ".join(advice))


def _temperature(device: Device) -> Iterator[Finding]:
    degrees = Monitor(device.root).sample().load.temperature_c
    if degrees is None:
        yield Finding("temperature", "note", "no sensor", "heat is noticed only when the processor has become slow")
    elif degrees >= 70:
        yield Finding("temperature", "note", f"{degrees:.0f} °C", "fewer calls are taken", "give it a heat sink or a fan")
    else:
        yield Finding("temperature", "ok", f"{degrees:.0f} °C")


def _memory(device: Device) -> Iterator[Finding]:
    memory = Monitor(device.root).sample().load.memory
    if memory is None:
        return
    found = f"{memory.available_mb:.0f} of {memory.total_mb:.0f} MB available"
    if memory.available_mb >= _LEAST_MB:
        yield Finding("memory", "ok", found)
    else:
        cost = "models are unloaded between calls, or do not fit"
        yield Finding("memory", "problem", found, cost, "stop other services, or serve fewer models")


def _sensors(device: Device, sensors: Mapping[str, Sensor]) -> Iterator[Finding]:
    """What is named but not there: a device, a file, or the package that reads it."""
    for name, sensor in sensors.items():
        label, cost = f"sensor {name}", f"{sensor.uri} cannot be read"
        packages, do = _READERS.get(sensor.kind, ((), ""))
        path = sensor.target if sensor.kind in ("camera", "file", "folder") and sensor.target.startswith("/") else ""
        missing = bool(packages) and not any(map(device.installed, packages))
        if missing:
            yield Finding(label, "problem", f"{sensor.kind}: needs the package {packages[0]}, which is not installed", cost, do)
        if path and not (device.root / path.lstrip("/")).exists():
            yield Finding(label, "problem", f"{path} is not there", cost, "connect it, or mend [sensors]")
        elif (path or packages) and not missing:
            yield Finding(label, "ok", path or f"{sensor.kind}:{sensor.target}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
