"""Who writes a file, as the kernel knows it."""

import os
import signal
from pathlib import Path

from edge_mcp.repository.writers import files_of, is_written


def test_a_file_is_written_while_somebody_has_it_open_for_writing(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    with file.open("wb", buffering=0) as opened:
        opened.write(b"half")
        assert is_written([tmp_path / "none", file])
    assert not is_written([file])
    with file.open("rb"):
        assert not is_written([file])


def test_what_is_no_file_and_what_is_not_there_is_not_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    assert not is_written([tmp_path, tmp_path / "fifo", tmp_path / "link", tmp_path / "none"])


def test_asking_has_no_effect_on_who_opens_the_file_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(b"x")
    if (child := os.fork()) == 0:
        for _ in range(2000):
            os.close(os.open(file, os.O_WRONLY))
        os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        is_written([file])
    assert signal.getsignal(signal.SIGIO) == signal.SIG_DFL  # which would have ended this process


def test_the_files_of_a_folder_are_its_own_and_not_hidden(tmp_path: Path) -> None:
    for name in ("model.toml", ".hidden"):
        (tmp_path / name).write_text("")
    assert files_of(tmp_path) == [tmp_path / "model.toml"]
    assert files_of(tmp_path / "model.toml") == [tmp_path / "model.toml"]
    assert files_of(tmp_path / "none") == [tmp_path / "none"]
