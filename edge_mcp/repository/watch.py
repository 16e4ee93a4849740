"""Tells what changes in folders of models, without polling (inotify(7)); a folder may come later, go, and come again."""

import asyncio
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from edge_mcp.repository.state import STATE_NAME
from edge_mcp.repository.versions import HIDDEN

_EVENT = struct.Struct("iIII")
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLY_FOLDERS, _ADD = 0x1000000, 0x20000000
_COMES, _GOES = _CREATE | _MOVED_TO, _DELETE | _MOVED_FROM
_SELF = _DELETE_SELF | _MOVE_SELF | _UNMOUNT
_FILES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _COMES | _GOES
_TRIES = 8

Kind = Literal["above", "folder", "model", "state"]
_MASKS: dict[Kind, int] = {
    "above": _COMES | _GOES | _SELF,
    "folder": _FILES | _SELF,
    "model": _FILES,
    "state": _MOVED_TO | _SELF,
}
logger = logging.getLogger(__name__)


class _Spot(msgspec.Struct, frozen=True):
    """Why a folder on disk (`path`) is watched: for which folder of models, and as what of it.

    "above" waits for `name`, which is or leads to the folder of models; "state" is its hidden folder.
    """

    folder: Path
    kind: Kind
    path: Path
    name: str = ""


class Watch:
    """Calls `changed(folder, name)` for what happened to the file or model folder of that name in one of the `folders`.

    An empty name: to the folder as a whole, or its state, or to what is not known. What cannot be watched is logged once.
    """

    def __init__(self, folders: Iterable[Path], changed: Callable[[Path, str], None]) -> None:
        self.writing: set[Path] = set()
        """Files that were written to and not closed since, by the path that they have in the folder of models."""
        self._folders = tuple(folders)
        self._changed = changed
        self._spots: dict[int, list[_Spot]] = {}
        self._told: set[int] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            self._warn(ctypes.get_errno(), "")

    def __enter__(self) -> "Watch":
        if self._descriptor >= 0:
            asyncio.get_running_loop().add_reader(self._descriptor, self.read)
            for folder in self._folders:
                self._arm(folder)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> None:
        """Take in what has happened."""
        try:
            content = os.read(self._descriptor, 64 * 1024)
        except BlockingIOError:
            return
        for number, mask, name in _events(content):
            if mask & _OVERFLOW:
                self._again()
            elif mask & _IGNORED:
                self._spots.pop(number, None)
            else:
                for spot in tuple(self._spots.get(number, ())):
                    self._take(spot, mask, name)

    # ---- what happened

    def _again(self) -> None:
        """Some of it was lost: look at everything anew."""
        logger.info("more has changed in the folders of models than could be followed: all of them are looked at anew")
        self.writing.clear()
        for folder in self._folders:
            self._arm(folder)
            self._changed(folder, "")

    def _take(self, spot: _Spot, mask: int, name: str) -> None:
        if mask & _SELF or (spot.kind == "above" and name == spot.name):
            self._arm(spot.folder)
            self._changed(spot.folder, "")
        elif spot.kind == "state":
            if name == STATE_NAME:
                self._changed(spot.folder, "")
        elif spot.kind == "folder":
            self._take_child(spot, mask, name)
        elif spot.kind == "model" and name and not name.startswith("."):
            self._track(spot.path / name, mask)
            self._changed(spot.folder, spot.path.name)

    def _take_child(self, spot: _Spot, mask: int, name: str) -> None:
        path = spot.path / name
        if name == HIDDEN and mask & _COMES:
            self._add(_Spot(spot.folder, "state", path))
            self._changed(spot.folder, "")
        if not name or name.startswith("."):
            return
        if mask & (_COMES | _GOES):
            self._drop(spot.folder, path)
        if mask & _COMES:
            self._add(_Spot(spot.folder, "model", path))
        self._track(path, mask)
        self._changed(spot.folder, name)

    def _track(self, path: Path, mask: int) -> None:
        """Who creates a file writes it and closes it; a link or a file that was made elsewhere has its content already."""
        if mask & _MODIFY or (mask & _CREATE and _is_empty(path)):
            self.writing.add(path)
        elif mask & (_CLOSE_WRITE | _MOVED_TO | _GOES):
            self.writing.discard(path)

    # ---- what is watched

    def _arm(self, folder: Path) -> None:
        """Watch a folder as it is now, or the way to it."""
        self._drop(folder)
        for _ in range(_TRIES):
            if folder.is_symlink():
                self._add(_Spot(folder, "above", folder.parent, folder.name))
            if self._add(_Spot(folder, "folder", folder)):
                break
            if self._await(folder):
                return
        self._add(_Spot(folder, "state", folder / HIDDEN))
        try:
            children = [path for path in folder.iterdir() if not path.name.startswith(".")]
        except OSError:
            return  # it is gone again, which is told
        for path in children:
            self._add(_Spot(folder, "model", path))

    def _await(self, folder: Path) -> bool:
        """Watch what is there of the way to a folder; False when more of it is there by now."""
        try:
            missing = folder.resolve()
        except (OSError, RuntimeError):
            return True  # links in a circle: their folder is watched
        for parent in missing.parents:
            if self._add(_Spot(folder, "above", parent, missing.name)):
                return not missing.exists()
            missing = parent
        return True

    def _add(self, spot: _Spot) -> bool:
        """Whether it is watched now, and not just missing."""
        mask = _MASKS[spot.kind] | _ONLY_FOLDERS | _ADD
        number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(spot.path), mask)
        if number < 0:
            error = ctypes.get_errno()
            if error not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self._warn(error, f" {spot.path}")
            return False
        spots = self._spots.setdefault(number, [])
        if spot not in spots:
            spots.append(spot)
        return True

    def _drop(self, folder: Path, path: Path | None = None) -> None:
        """Watch nothing for a folder of models any more; or only not what is in it at `path`."""
        for number, spots in list(self._spots.items()):
            gone = [spot for spot in spots if spot.folder == folder and path in (None, spot.path)]
            if gone:
                self._spots[number] = left = [spot for spot in spots if spot not in gone]
                if not left:
                    del self._spots[number]
                    self._libc.inotify_rm_watch(self._descriptor, number)
        base = folder if path is None else path
        self.writing.difference_update([file for file in self.writing if base in file.parents])

    def _warn(self, error: int, what: str) -> None:
        if error in self._told:
            return
        self._told.add(error)
        hint = {
            errno.ENOSPC: "the limit of watches is reached: raise fs.inotify.max_user_watches",
            errno.EMFILE: "the limit of watchers is reached: raise fs.inotify.max_user_instances",
        }.get(error, os.strerror(error))
        logger.warning("not every change of models%s is seen: %s. SIGHUP makes this server look", what, hint)


def _events(content: bytes) -> Iterator[tuple[int, int, str]]:
    """The number of the watch, what happened, and to which name in it."""
    position = 0
    while position < len(content):
        number, mask, _, length = _EVENT.unpack_from(content, position)
        position += _EVENT.size
        yield number, mask, os.fsdecode(content[position : position + length].rstrip(b"\0"))
        position += length


def _is_empty(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size == 0
    except OSError:
        return False
