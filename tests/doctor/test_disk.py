"""What the doctor says of a disk, as Linux tells of it."""

from pathlib import Path

import pytest

from edge_mcp.doctor.disk import disk
from edge_mcp.load.doctor import Finding
from tests.load.test_doctor import device


def put(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def told(root: Path, **files: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in disk(device(root))}


def test_errors_of_a_file_system_are_a_problem(tmp_path: Path) -> None:
    put(tmp_path, {"sys/fs/ext4/mmcblk0p2/errors_count": "0\n", "sys/fs/ext4/features/lazy": ""})
    assert told(tmp_path)["file system"].found == "no errors on mmcblk0p2"
    put(tmp_path, {"sys/fs/ext4/mmcblk0p2/errors_count": "7\n", "sys/fs/ext4/mmcblk0p2/last_error_func": "ext4_lookup\n"})
    finding = told(tmp_path)["file system"]
    assert (finding.level, finding.found) == ("problem", "7 errors on mmcblk0p2, the last in ext4_lookup")
    assert "fsck.mode=force" in finding.do


@pytest.mark.parametrize(
    ("life", "end", "level", "found"),
    [
        ("0x01 0x02", "0x01", "ok", "mmcblk0 has used 10 to 20 % of it"),
        ("0x01 0x0a", "0x01", "problem", "mmcblk0 has used 90 to 100 % of it"),
        ("0x03 0x01", "0x03", "problem", "mmcblk0 has used 20 to 30 % of it"),
        ("0x0b 0x01", "0x01", "problem", "mmcblk0 has outlived it"),
        ("0x01", "", "ok", "mmcblk0 has used 0 to 10 % of it"),
    ],
)
def test_how_much_of_its_life_an_emmc_has_used(tmp_path: Path, life: str, end: str, level: str, found: str) -> None:
    files = {"sys/block/mmcblk0/device/life_time": life + "\n", "sys/block/mmcblk0/device/pre_eol_info": end + "\n"}
    put(tmp_path, files)
    finding = told(tmp_path)["card life"]
    assert (finding.level, finding.found) == (level, found)


@pytest.mark.parametrize("life", ["0x00 0x00", "garbage", ""])
def test_who_does_not_tell_of_its_life_is_not_asked(tmp_path: Path, life: str) -> None:
    put(tmp_path, {"sys/block/mmcblk0/device/life_time": life, "sys/block/mmcblk0/stat": "nonsense"})
    assert set(told(tmp_path)) == {"disk", "card errors"}


def test_errors_of_a_card_are_told_and_that_they_cannot_be_seen(tmp_path: Path) -> None:
    put(tmp_path, {"sys/block/mmcblk0/ro": "0\n"})
    assert told(tmp_path)["card errors"].do == "sudo edge-mcp doctor"
    counts = "# Command Timeout Occurred:\t 0\n# Data CRC Errors Occurred:\t {}\n"
    put(tmp_path, {"sys/kernel/debug/mmc0/err_stats": counts.format(0)})
    assert told(tmp_path)["card errors"].level == "ok"
    put(tmp_path, {"sys/kernel/debug/mmc0/err_stats": counts.format(12)})
    finding = told(tmp_path)["card errors"]
    assert (finding.level, finding.found) == ("problem", "Data CRC Errors Occurred: 12")


def test_a_card_that_is_locked_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path, {"sys/block/mmcblk0/ro": "1\n"})
    assert told(tmp_path)["card writes"].level == "problem"
