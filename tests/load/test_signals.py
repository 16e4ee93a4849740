"""The parsers, on each format's documented forms and on nonsense."""

import pytest

from edge_mcp.load import signals
from edge_mcp.load.signals import FREQUENCY_CAPPED, SOFT_LIMIT, THROTTLED, UNDER_VOLTAGE, CpuTimes, Power, Pressure


def test_the_processors_share_is_that_of_the_time_between() -> None:
    before = signals.cpu_times("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1 2 3 4\n")
    after = signals.cpu_times("cpu  150 0 150 870 30 0 0 0 99 0\n")
    assert before == CpuTimes(1000, 800)
    assert after.busy_since(before) == pytest.approx(0.5)
    assert before.busy_since(before) is None


def test_a_processor_whose_counters_went_back_is_neither_below_nor_above_what_is_possible() -> None:
    assert CpuTimes(1100, 1000).busy_since(CpuTimes(1000, 800)) == 0
    assert CpuTimes(1100, 700).busy_since(CpuTimes(1000, 800)) == 1


def test_pressure_with_and_without_a_line_for_all_tasks() -> None:
    some = "some avg10=1.50 avg60=2.25 avg300=0.00 total=12\n"
    assert signals.pressure(some) == Pressure(1.5, 2.25)
    assert signals.pressure(some + "full avg10=0.75 avg60=0.00 avg300=0.00 total=1\n") == Pressure(1.5, 2.25, 0.75)


@pytest.mark.parametrize(
    ("text", "now", "since_boot"),
    [
        ("0\n", (), ()),
        ("50005\n", (UNDER_VOLTAGE, THROTTLED), (UNDER_VOLTAGE, THROTTLED)),
        ("0xe0008\n", (SOFT_LIMIT,), (FREQUENCY_CAPPED, THROTTLED, SOFT_LIMIT)),
        ("throttled=0x20002\n", (FREQUENCY_CAPPED,), (FREQUENCY_CAPPED,)),
    ],
)
def test_what_the_firmware_does_now_and_did_since_boot(text: str, now: tuple[int], since_boot: tuple[int]) -> None:
    found = signals.throttling(text)
    assert (found.now, found.since_boot) == (frozenset(now), frozenset(since_boot))


def test_the_frequency_is_a_share_of_the_largest() -> None:
    assert signals.frequency_ratio("600000\n", "1000000\n") == 0.6
    assert signals.frequency_ratio("3600001\n", "3600000\n") == 1


@pytest.mark.parametrize(
    ("supplies", "found"),
    [
        ([], None),
        ([{"type": "Mains", "online": "1"}], None),
        ([{"type": "Battery", "scope": "Device", "status": "Discharging", "capacity": "5"}], None),
        ([{"type": "Battery", "status": "Discharging", "capacity": "64"}], Power(True, 64)),
        ([{"type": "Battery", "status": "Discharging"}, {"type": "USB", "online": "1"}], Power(False)),
        ([{"type": "Battery", "status": "Discharging", "capacity": "?"}, {"type": "Mains", "online": "0"}], Power(True)),
        ([{"type": "Battery", "status": "Full", "capacity": "100"}], Power(False, 100)),
    ],
)
def test_a_device_is_on_battery_when_one_discharges_and_no_mains_are_there(
    supplies: list[dict[str, str]], found: Power | None
) -> None:
    assert signals.power(supplies) == found


def test_bytes_written() -> None:
    assert signals.written_bytes("rchar: 1\nwrite_bytes: 40960\ncancelled_write_bytes: 0\n") == 40960
    assert signals.sectors_written("1 2 3 4 5 6 7 8 9 10 11\n") == 7 * 512


@pytest.mark.parametrize(
    "parser",
    [
        signals.cpu_times,
        signals.pressure,
        signals.celsius,
        signals.throttling,
        signals.written_bytes,
        signals.sectors_written,
    ],
)
@pytest.mark.parametrize(
    "text", ["", "nonsense", "cpu a b c d", "some avg10=", "MemTotal:\nMemAvailable:", "999999999"[:9] + "x"]
)
def test_nonsense_is_an_error_and_no_value(parser: object, text: str) -> None:
    assert callable(parser)
    with pytest.raises(ValueError, match=r"."):
        parser(text)


def test_a_sensor_that_answers_what_cannot_be_is_not_believed() -> None:
    for text in ("-127000\n", "999000\n"):
        with pytest.raises(ValueError, match="no temperature"):
            signals.celsius(text)
