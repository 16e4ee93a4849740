"""The doctor, on four boards and on whatever may be wrong with one."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_mcp.doctor.whole import examine, examine_here
from edge_mcp.load.doctor import Device, Finding
from edge_mcp.sensors.settings import sensors_of
from tests.load.test_monitor import BOARDS, copied

NOW = 1_790_000_000.0


def device(root: Path, machine: str = "aarch64") -> Device:
    return Device(root, machine, 8, 4096, root, NOW, lambda name: "1.2.3")


def found(device: Device, name: str) -> Finding:
    return found_of(examine(device), name)


def found_of(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_what_is_not_well_says_what_it_costs_and_what_is_to_do() -> None:
    for board in ("zero-2-w", "pi-4", "pi-5", "x86"):
        for finding in examine(device(BOARDS / board)):
            assert finding.level == "ok" or finding.cost, finding
            assert finding.level != "problem" or finding.do, finding


def test_a_system_as_flashed_gets_the_exact_words_for_its_command_line() -> None:
    zero = device(BOARDS / "zero-2-w")
    assert "psi=1 to the one line of /boot/firmware/cmdline.txt" in found(zero, "pressure (PSI)").do
    assert "cgroup_enable=memory to the one line of /boot/firmware/cmdline.txt" in found(zero, "memory cgroup").do
    assert found(device(BOARDS / "pi-5"), "pressure (PSI)").level == "ok"
    assert found(device(BOARDS / "pi-5"), "memory cgroup").level == "ok"


def test_a_weak_supply_is_named() -> None:
    finding = found(device(BOARDS / "pi-4"), "throttling")
    assert (finding.level, finding.found) == ("problem", "now: the supply voltage was too low; the processor was slowed down")
    assert finding.do == "use the board's own power supply, and a short cable"


def test_what_happened_since_boot_is_told_when_it_is_over(tmp_path: Path) -> None:
    root = copied("zero-2-w", tmp_path)
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text("80000\n")
    finding = found(device(root), "throttling")
    assert (finding.level, finding.found) == ("note", "since boot: the soft temperature limit was reached")
    assert finding.do == "give it a heat sink or a fan"


def test_a_32_bit_userland_runs_no_model() -> None:
    for machine in ("aarch64", "armv7l"):
        finding = found(replace(device(BOARDS / "pi-4", machine), pointer_bytes=4), "userland")
        assert (finding.level, finding.found) == ("problem", f"32 bits on {machine}")
    assert found(device(BOARDS / "x86", "riscv64"), "userland").level == "problem"


@pytest.mark.parametrize(
    ("features", "level"),
    [("fp asimd evtstrm asimddp", "ok"), ("fp asimd evtstrm", "note"), ("fp evtstrm", "problem")],
)
def test_a_processor_is_judged_before_a_runtime_is_imported(tmp_path: Path, features: str, level: str) -> None:
    root = copied("pi-5", tmp_path)
    (root / "proc/cpuinfo").write_text(f"processor\t: 0\nFeatures\t: {features}\n")
    assert found(device(root), "processor").level == level


def test_a_package_that_is_missing_says_what_for() -> None:
    finding = found(replace(device(BOARDS / "x86"), installed=lambda name: None), "package onnxruntime")
    assert (finding.level, finding.cost) == ("note", "no .onnx models")


def test_a_clock_that_was_never_set_is_a_problem() -> None:
    assert found(replace(device(BOARDS / "pi-4"), now=1_000_000.0), "clock").found == "1970-01-12"


def test_a_clock_without_a_time_server_drifts(tmp_path: Path) -> None:
    (copied("pi-4", tmp_path) / "run/systemd/timesync").mkdir(parents=True)
    assert found(device(tmp_path), "clock").level == "note"
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert found(device(tmp_path), "clock").level == "ok"


def test_a_card_that_is_written_much_is_told(tmp_path: Path) -> None:
    root = copied("zero-2-w", tmp_path)
    (root / "proc/uptime").write_text("172800.00 600000.00\n")
    assert found(device(root), "card").level == "ok"
    (root / "sys/block/mmcblk0/stat").write_text("0 0 0 0 0 0 40000000 0 0 0 0\n")
    assert found(device(root), "card").found == "9.5 GB written a day since boot"


def test_little_memory_is_a_problem(tmp_path: Path) -> None:
    root = copied("zero-2-w", tmp_path)
    assert found(device(root), "memory").found == "145 of 426 MB available"
    assert found(device(root), "memory").level == "problem"
    assert found(device(BOARDS / "pi-5"), "memory").found == "320 of 512 MB available"


def test_a_sensor_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    sensors = sensors_of(
        ["door=camera:/dev/video0?width=640", "yard=camera:/dev/video7", "mic=microphone:", "last=file:///no.jpg"]
    )
    levels = {
        finding.name: finding.level for finding in examine(device(tmp_path), sensors) if finding.name.startswith("sensor")
    }
    assert levels == {"sensor door": "ok", "sensor yard": "problem", "sensor mic": "ok", "sensor last": "problem"}


def test_a_sensor_whose_package_is_missing_says_which(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    sensors = sensors_of(["door=camera:/dev/video0", "mic=microphone:", "eye=picamera2:", "run=command:date"])
    bare = replace(device(tmp_path), installed=lambda name: None)
    told = {finding.name: finding for finding in examine(bare, sensors) if finding.name.startswith("sensor")}
    assert set(told) == {"sensor door", "sensor mic", "sensor eye"}
    assert told["sensor door"].found == "camera: needs the package opencv-python-headless, which is not installed"
    assert "extra microphone" in told["sensor mic"].do
    assert "apt install python3-picamera2" in told["sensor eye"].do
    other = replace(bare, installed=lambda name: "4.10" if name == "opencv-python" else None)
    assert found_of(examine(other, sensors), "sensor door").level == "ok"


def test_this_device_can_be_examined(tmp_path: Path) -> None:
    here = examine_here(Device.here(tmp_path / "not" / "there" / "yet"))
    assert {"userland", "package onnxruntime", "memory", "disk", "clock"} <= {finding.name for finding in here}
