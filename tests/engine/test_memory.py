"""What the kernel's files say of memory."""

from pathlib import Path

import pytest

from edge_mcp.engine.memory import DeviceMemory, anonymous_and_mapped_mb, process_mb

MB = 1024 * 1024


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_of_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    root = tmp_path / "proc"
    write(root, meminfo="MemTotal:  512000 kB\nMemFree: 1000 kB\nMemAvailable:  102400 kB\n", self__cgroup="0::/a/b\n")
    return root


def group(root: Path, path: str, current: int, cached: int = 0, **bounds: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.current").write_text(f"{current * MB}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached * MB}\n")
    for name, text in bounds.items():
        (folder / f"memory.{name}").write_text(text + "\n")


def test_a_device_without_control_groups_has_what_it_says(proc: Path, tmp_path: Path) -> None:
    memory = DeviceMemory(proc, tmp_path / "cgroup")
    assert (memory.total_mb(), memory.available_mb()) == (500, 100)


def test_the_tightest_control_group_counts_and_cached_files_can_be_had(proc: Path, tmp_path: Path) -> None:
    cgroups = tmp_path / "cgroup"
    memory = DeviceMemory(proc, cgroups)
    group(cgroups, "a/b", 90, cached=30, max="max", high=str(200 * MB))
    group(cgroups, "a", 150, max=str(170 * MB))
    assert (memory.total_mb(), memory.available_mb()) == (170, 20)
    group(cgroups, "a", 10, max="max", high="max")
    assert (memory.total_mb(), memory.available_mb()) == (200, 100)  # the device has less left than the group
    group(cgroups, "a/b", 180, cached=20, max=str(200 * MB))
    assert memory.available_mb() == 40
    group(cgroups, "a/b", 220, max=str(200 * MB))
    assert memory.available_mb() == 0


def test_control_groups_of_version_1_count_too(proc: Path, tmp_path: Path) -> None:
    (proc / "self/cgroup").write_text("4:cpu,cpuacct:/\n3:memory:/a/b\n2:name=systemd:/a\n0::/\n")
    for path, limit, used in (("a/b", 9223372036854771712, 90 * MB), ("a", 200 * MB, 150 * MB)):
        folder = tmp_path / "cgroup/memory" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {10 * MB}\n")
    memory = DeviceMemory(proc, tmp_path / "cgroup")
    assert (memory.total_mb(), memory.available_mb()) == (200, 60)


def test_a_control_group_outside_of_the_tree_is_not_looked_for(proc: Path, tmp_path: Path) -> None:
    (proc / "self/cgroup").write_text("0::/../../etc\n3:memory:/../a\nnonsense\n")
    assert DeviceMemory(proc, tmp_path / "cgroup").total_mb() == 500


def test_where_nothing_is_said_nothing_is_limited(tmp_path: Path) -> None:
    memory = DeviceMemory(tmp_path, tmp_path)
    assert (memory.total_mb(), memory.available_mb(), memory.process_mb(1)) == (float("inf"), float("inf"), 0)


def test_a_process_counts_what_it_alone_uses_or_all_where_the_kernel_does_not_tell(tmp_path: Path) -> None:
    write(tmp_path, **{"7__status": "Name:\tx\nVmRSS:\t 4096 kB\nRssAnon:\t 1024 kB\nRssFile:\t 2048 kB\n"})
    assert process_mb(7, tmp_path) == 4
    write(
        tmp_path, **{"7__smaps_rollup": "0-1 ---p 00000000 00:00 0 [rollup]\nRss: 4096 kB\nPss: 2048 kB\nPss_Anon: 1024 kB\n"}
    )
    assert process_mb(7, tmp_path) == 2
    (tmp_path / "self").symlink_to("7")
    assert anonymous_and_mapped_mb(tmp_path) == (1, 0)
    (tmp_path / "7/smaps_rollup").unlink()
    assert anonymous_and_mapped_mb(tmp_path) == (1, 2)


def test_this_very_process_and_device_can_be_measured() -> None:
    own, mapped = anonymous_and_mapped_mb()
    assert own > 1
    assert own + mapped == pytest.approx(process_mb(), rel=0.2)
    memory = DeviceMemory()
    assert 0 < memory.available_mb() < memory.total_mb()
