"""What is told of folders of models that change; the kernel is the real one."""

import asyncio
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_mcp.repository.watch import Watch

LIMIT_S = 30.0


class Told:
    """What a watch tells, as it comes."""

    def __init__(self, *folders: Path) -> None:
        self.places: list[tuple[Path, str]] = []
        self._came = asyncio.Event()
        self.watch = Watch(folders, self._take)

    def _take(self, folder: Path, name: str) -> None:
        self.places.append((folder, name))
        self._came.set()

    async def of(self, folder: Path, name: str) -> None:
        """Wait until this is told, and forget what was told so far."""
        async with asyncio.timeout(LIMIT_S):
            while (folder, name) not in self.places:
                await self._came.wait()
                self._came.clear()
        self.places.clear()

    def now(self) -> list[tuple[Path, str]]:
        """What the kernel has to tell at this moment."""
        self.places.clear()
        self.watch.read()
        told, self.places = self.places, []
        return told


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "models").mkdir()
    yield tmp_path / "models"


async def test_bare_files_are_told_by_name_and_hidden_ones_are_not(folder: Path) -> None:
    told = Told(folder)
    with told.watch:
        (folder / ".a.onnx.part").write_bytes(b"x")
        assert told.now() == []
        (folder / ".a.onnx.part").rename(folder / "a.onnx")
        await told.of(folder, "a.onnx")
        (folder / "a.onnx").unlink()
        await told.of(folder, "a.onnx")
        assert told.now() == []


async def test_a_file_is_being_written_until_it_is_closed(folder: Path) -> None:
    told = Told(folder)
    with told.watch:
        with (folder / "a.onnx").open("wb", buffering=0) as file:
            await told.of(folder, "a.onnx")
            assert told.watch.writing == {folder / "a.onnx"}
            file.write(b"half")
            await told.of(folder, "a.onnx")
            assert told.watch.writing == {folder / "a.onnx"}
        await told.of(folder, "a.onnx")
        assert told.watch.writing == set()
        os.link(folder / "a.onnx", folder / "b.onnx")
        await told.of(folder, "b.onnx")
        assert told.watch.writing == set()


async def test_a_model_folder_is_followed_wherever_it_comes_from(folder: Path, tmp_path: Path) -> None:
    (folder / "old").mkdir()
    (tmp_path / "new").mkdir()
    told = Told(folder)
    with told.watch:
        (folder / "old" / "model.toml").write_text("x")
        await told.of(folder, "old")
        (folder / "made").mkdir()
        await told.of(folder, "made")
        (folder / "made" / "model.toml").write_text("x")
        await told.of(folder, "made")
        (tmp_path / "new").rename(folder / "moved")
        await told.of(folder, "moved")
        told.now()
        (folder / "moved" / "model.toml").write_text("x")
        assert set(told.now()) == {(folder, "moved")}
        (folder / "moved").rename(tmp_path / "away")
        await told.of(folder, "moved")
        (tmp_path / "away" / "model.toml").write_text("y")
        assert told.now() == []
        shutil.rmtree(folder / "made")
        await told.of(folder, "made")


async def test_of_the_hidden_folder_only_the_state_is_told(folder: Path) -> None:
    told = Told(folder)
    with told.watch:
        hidden = folder / ".edge-mcp"
        hidden.mkdir()
        await told.of(folder, "")
        told.now()
        (hidden / "lock").write_text("")
        (hidden / "state.json.1").write_text("{}")
        assert told.now() == []
        (hidden / "state.json.1").rename(hidden / "state.json")
        assert told.now() == [(folder, "")]


async def test_a_folder_may_come_later_go_and_come_again(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "edge-mcp" / "models"
    told = Told(folder)
    with told.watch:
        (tmp_path / "other").mkdir()
        assert told.now() == []
        for _ in range(2):
            (tmp_path / "data").mkdir()
            folder.mkdir(parents=True)
            await told.of(folder, "")
            told.now()
            (folder / "a.onnx").write_bytes(b"x")
            assert (folder, "a.onnx") in told.now()
            shutil.rmtree(tmp_path / "data")
            await told.of(folder, "")
            told.now()


async def test_a_folder_that_another_takes_the_place_of_is_followed_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    told = Told(folder)
    with told.watch:
        folder.rename(tmp_path / "before")
        (tmp_path / "next").rename(folder)
        await told.of(folder, "")
        told.now()
        (tmp_path / "before" / "a.onnx").write_bytes(b"x")
        assert told.now() == []
        (folder / "b.onnx").write_bytes(b"x")
        assert set(told.now()) == {(folder, "b.onnx")}


async def test_a_link_to_a_folder_may_lead_elsewhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    told = Told(link)
    with told.watch:
        (folder / "a.onnx").write_bytes(b"x")
        await told.of(link, "a.onnx")
        (tmp_path / "draft").symlink_to(tmp_path / "next")
        (tmp_path / "draft").rename(link)
        await told.of(link, "")
        told.now()
        (tmp_path / "next" / "b.onnx").write_bytes(b"x")
        assert set(told.now()) == {(link, "b.onnx")}


async def test_two_names_of_one_folder_are_both_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    told = Told(folder, tmp_path / "link")
    with told.watch:
        (folder / "a.onnx").write_bytes(b"x")
        assert set(told.now()) == {(folder, "a.onnx"), (tmp_path / "link", "a.onnx")}


async def test_more_than_the_kernel_can_queue_has_all_looked_at_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    told = Told(folder)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with told.watch:
        one, two = folder / "a", folder / "b"
        one.write_bytes(b"")
        for _ in range(most // 2 + 10):
            one.rename(two)
            two.rename(one)
        while (folder, "") not in (heard := told.now()):
            assert heard
        assert "looked at anew" in caplog.text
        (folder / "c.onnx").write_bytes(b"x")
        while (folder, "c.onnx") not in (heard := told.now()):
            assert heard


class Limited:
    """The kernel's calls, where a limit is reached: there is no other way to reach one without harming other processes."""

    def __init__(self, init: int, add: int) -> None:
        self._init, self._add = init, add

    def inotify_init1(self, flags: int) -> int:
        ctypes.set_errno(errno.EMFILE)
        return self._init

    def inotify_add_watch(self, descriptor: int, path: bytes, mask: int) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return self._add


@pytest.mark.parametrize(("init", "said"), [(-1, "max_user_instances"), (0, "max_user_watches")])
async def test_what_cannot_be_watched_is_said_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, init: int, said: str
) -> None:
    descriptor = os.eventfd(0, os.EFD_NONBLOCK) if init == 0 else -1
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Limited(descriptor, -1))
    for name in ("a", "b"):
        (folder / name).mkdir()
    with Told(folder).watch:
        (warning,) = [record.getMessage() for record in caplog.records]
    assert said in warning
    assert "SIGHUP" in warning
