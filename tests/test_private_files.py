"""Files that only their owner may read."""

import multiprocessing
import os
from pathlib import Path

import pytest

from edge_mcp import private_files
from edge_mcp.errors import ConfigError


def test_what_was_written_is_read_and_nobody_else_may(tmp_path: Path) -> None:
    file = tmp_path / "new" / "secret"
    assert private_files.read(file, 10) is None
    private_files.write(file, b"first")
    private_files.write(file, b"second")
    assert private_files.read(file, 10) == b"second"
    assert private_files.read(file, 3) == b"seco"  # one more byte tells that there is more
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [one.name for one in file.parent.iterdir()] == ["secret"]
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"others may read .*chmod 600"):
        private_files.read(file, 10)


def test_what_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir(mode=0o700)
    for file in (tmp_path / "file" / "secret", tmp_path / "folder"):
        with pytest.raises(ConfigError, match="cannot be written"):
            private_files.write(file, b"")
    with pytest.raises(ConfigError, match="cannot be written"), private_files.locked(tmp_path / "file" / "secret"):
        pytest.fail("there is nothing to lock")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        private_files.read(tmp_path / "folder", 10)


def test_a_file_is_that_of_whose_folder_it_is_in(tmp_path: Path) -> None:
    """What root writes for a service is the service's; others have no files but their own."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, 12346)
    private_files.write(tmp_path / "secret", b"")
    file, folder = (tmp_path / "secret").stat(), tmp_path.stat()
    assert (file.st_uid, file.st_gid) == (folder.st_uid, folder.st_gid)


def _add(file: Path, times: int) -> None:
    for _ in range(times):
        with private_files.locked(file):
            count = int(private_files.read(file, 100) or b"0")
            private_files.write(file, str(count + 1).encode())


def test_no_change_of_another_process_is_lost(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_add, args=(tmp_path / "count", 50)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    assert private_files.read(tmp_path / "count", 100) == b"150"
