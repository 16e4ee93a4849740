"""Files that only their owner may read: written whole or not at all, whenever the power goes, and by one process at a time."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_mcp.errors import ConfigError


def read(file: Path, most: int) -> bytes | None:
    """What is in a file, up to `most` bytes and one more; None where there is none. Raises: ConfigError when it cannot be read,
    or others may read it."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise ConfigError(f"others may read {file}", f"Run: chmod 600 {file}")
            return stream.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def write(file: Path, content: bytes) -> None:
    """Keep this in a file, in place of what was there; its folder is made where it is not there. Raises: ConfigError."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                if os.geteuid() == 0:  # for a service, which is somebody else: its folder is its own
                    owner = file.parent.stat()
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                os.fsync(descriptor)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """For who reads a file and writes another content: one process at a time. Raises: ConfigError."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
