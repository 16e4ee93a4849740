"""Whether somebody is still writing a file, as the kernel knows it (leases, fcntl(2))."""

import fcntl
import os
import signal
import stat
from collections.abc import Iterable
from pathlib import Path


def is_written(files: Iterable[Path]) -> bool:
    """Whether any of these files is open for writing, in whichever process. What cannot be known (leases are given to a
    file's owner only, and not on every file system) counts as no."""
    return any(map(_is_written, files))


def files_of(path: Path) -> list[Path]:
    """A model folder's own files that are not hidden; or the file itself."""
    try:
        return [child for child in path.iterdir() if not child.name.startswith(".")] if path.is_dir() else [path]
    except OSError:
        return []


def _is_written(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        # Whoever opens the file while the lease is held waits until it is closed below, and this process gets a signal,
        # which must be one that is ignored: SIGIO would end it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
