"""The programs that read devices, as far as a machine without any can show it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_mcp.errors import SensorError
from edge_mcp.sensors.capture import Sensors
from edge_mcp.sensors.settings import sensors_of

ROOT = Path(__file__).parents[2]


def said(module: str, target: str, *words: str, packages: bool = True) -> str:
    """The one line with which a device's program fails; without `packages` none but the standard library is there."""
    alone = [] if packages else ["-S"]
    ran = subprocess.run(
        [sys.executable, "-P", *alone, "-m", f"edge_mcp.sensors.device.{module}", str(os.getpid()), target, *words],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (1, b"")
    lines = [line for line in ran.stderr.decode().splitlines() if line]
    assert lines[-1].startswith("edge-mcp: ")
    return lines[-1]


def test_a_camera_that_is_not_there_is_told() -> None:
    line = said("camera", "/dev/video97", "width=640", packages=False)
    assert "there is no camera at /dev/video97: No such file or directory. See whether it is plugged in" in line
    assert "/etc/passwd is no camera" in said("camera", "/etc/passwd", packages=False)


def test_packages_that_are_not_there_are_told() -> None:
    assert "Install the extra camera, or run pip install opencv-python-headless" in said("camera", "/dev/null", packages=False)
    microphone = said("microphone", "", "seconds=1", "rate=16000", "channels=1", packages=False)
    assert "Install the extra microphone, or run pip install sounddevice" in microphone
    assert "sudo apt install python3-picamera2" in said("picamera", "", packages=False)
    assert "Write picamera2: or picamera2:1" in said("picamera", "/dev/video0", packages=False)


def test_a_program_whose_server_is_gone_reads_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "edge_mcp.sensors.device.camera", "1", "/dev/null"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, b"", b"")


async def test_the_server_hears_what_the_program_says() -> None:
    room = Sensors(sensors_of(["door=camera:/dev/video97?width=640&height=480"]))
    with pytest.raises(SensorError) as raised:
        await room.capture(room.all[0])
    assert str(raised.value).startswith("sensor://door cannot be read: there is no camera at /dev/video97: No such file")
    assert "\n" not in str(raised.value)
