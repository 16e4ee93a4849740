"""A page shared by server and engine that says what each lane is doing, so that a dead engine can still be asked.

Writing it costs the engine no system call; the server reads it only after the engine has died.
"""

import mmap
import os
import struct

STAGES = ("idle", "decoding", "running", "encoding")
_SLOT = struct.Struct("=II")


class Stages:
    """One slot per lane: the sequence number of the last run it took up, and the stage it is in."""

    def __init__(self, fd: int, lanes: int) -> None:
        self._map = mmap.mmap(fd, lanes * _SLOT.size)

    @staticmethod
    def create(lanes: int) -> int:
        """The descriptor of a new, zeroed page for `lanes` lanes. Raises: OSError."""
        fd = os.memfd_create("edge-mcp-stages", os.MFD_CLOEXEC)
        os.truncate(fd, lanes * _SLOT.size)
        return fd

    def enter(self, lane: int, sequence: int, stage: str) -> None:
        """The engine says that `lane` is in `stage` of run `sequence`."""
        _SLOT.pack_into(self._map, lane * _SLOT.size, sequence & 0xFFFFFFFF, STAGES.index(stage))

    def read(self, lane: int) -> tuple[int, str]:
        """The last (sequence, stage) of `lane`."""
        sequence, stage = _SLOT.unpack_from(self._map, lane * _SLOT.size)
        return sequence, STAGES[stage % len(STAGES)]

    def close(self) -> None:
        """Unmap the page."""
        self._map.close()
