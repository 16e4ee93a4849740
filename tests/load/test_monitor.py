"""The monitor, on the trees of four boards and on this very machine."""

from pathlib import Path

import pytest

from edge_mcp.load.governor import Load
from edge_mcp.load.monitor import LEAST_S, Monitor
from edge_mcp.load.signals import SOFT_LIMIT, THROTTLED, UNDER_VOLTAGE, Memory, Power

BOARDS = Path(__file__).parent / "boards"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def load(board: str) -> Load:
    return Monitor(BOARDS / board, Clock()).sample().load


def copied(board: str, folder: Path) -> Path:
    for file in (path for path in (BOARDS / board).rglob("*") if path.is_file()):
        target = folder / file.relative_to(BOARDS / board)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder


def test_a_zero_2_w_as_flashed_has_neither_pressure_nor_a_memory_cgroup() -> None:
    sample = Monitor(BOARDS / "zero-2-w", Clock()).sample()
    absent = {"cpu", "lag_s", "cpu_pressure", "memory_pressure", "io_pressure", "power"}
    assert set(sample.absent) == absent
    assert sample.load.temperature_c == 62.83
    assert sample.load.frequency == 0.6
    assert sample.load.throttling is not None
    assert sample.load.throttling.now == {SOFT_LIMIT}
    assert sample.load.memory is not None
    assert round(sample.load.memory.available_mb) == 145


def test_a_pi_4_that_is_throttled() -> None:
    found = load("pi-4")
    assert found.throttling is not None
    assert found.throttling.now == {UNDER_VOLTAGE, THROTTLED}
    assert found.cpu_pressure is not None
    assert found.cpu_pressure.some_10s == 1.52


def test_a_pi_5_in_a_limited_service_on_battery() -> None:
    found = load("pi-5")
    assert found.memory == Memory(512, 320)
    assert found.power == Power(True, 64)
    assert found.throttling is not None
    assert not found.throttling.now


def test_on_an_x86_gateway_the_package_is_the_processor_and_a_mouse_is_no_battery() -> None:
    found = load("x86")
    assert found.temperature_c == 48
    assert (found.power, found.throttling) == (None, None)


def test_the_processors_share_needs_two_samples(tmp_path: Path) -> None:
    clock = Clock()
    monitor = Monitor(copied("x86", tmp_path), clock)
    assert monitor.sample().load.cpu is None
    (tmp_path / "proc/stat").write_text("cpu  3812445 12310 910434 191534021 148312 0 51543 0 0 0\n")
    clock.now = LEAST_S
    assert monitor.sample().load.cpu == 1.0


def test_a_sample_is_kept_for_a_second(tmp_path: Path) -> None:
    clock = Clock()
    monitor = Monitor(copied("x86", tmp_path), clock)
    first = monitor.sample()
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").write_text("60000\n")
    clock.now = LEAST_S - 0.01
    assert monitor.sample() is first
    clock.now = LEAST_S
    assert monitor.sample().load.temperature_c == 60


def test_the_temperature_is_that_of_the_processors_first_zone_that_answers(tmp_path: Path) -> None:
    for number, (kind, value) in enumerate([("acpitz", "20000"), ("cpu-thermal", "x"), ("cpu-thermal", "48312")]):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(value + "\n")
    (tmp_path / "sys/class/thermal/thermal_zone3").mkdir()
    assert Monitor(tmp_path, Clock()).sample().load.temperature_c == 48.312


def test_the_temperatures_slope_is_taken_over_ten_seconds(tmp_path: Path) -> None:
    clock = Clock()
    monitor = Monitor(copied("pi-5", tmp_path), clock)
    slopes = []
    for second in range(0, 31, 5):
        clock.now = second
        (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text(f"{50000 + 200 * second}\n")
        slopes.append(monitor.sample().load.temperature_slope)
    assert slopes == pytest.approx([0, 0, 0.2, 0.2, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("content", ["", "nonsense\n", "\xff\xfe"])
def test_files_of_nonsense_are_absent_signals(tmp_path: Path, content: str) -> None:
    for file in (path for path in copied("pi-5", tmp_path).rglob("*") if path.is_file()):
        file.write_text(content, "latin-1")
    assert Monitor(tmp_path, Clock()).sample().load == Load()


def test_an_empty_tree_is_a_device_that_tells_nothing(tmp_path: Path) -> None:
    assert Monitor(tmp_path, Clock()).sample().load == Load()


def test_this_machine_tells_its_memory() -> None:
    found = Monitor().sample().load
    assert found.memory is not None
    assert 0 < found.memory.available_mb < found.memory.total_mb
