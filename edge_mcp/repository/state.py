"""`.edge-mcp/state.json`: which version of each model is active, which are kept, and what was refused; and its lock."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge_mcp.errors import ConfigError

STATE_NAME = "state.json"
LOCK_NAME = "lock"
LOCK_WAIT_S = 10.0
_FORMAT = 1
_MAX_BYTES = 16 * 1024 * 1024


class Source(msgspec.Struct, frozen=True):
    """What the owner dropped in: its name in the folder of models, and the state of its files that was taken in."""

    path: str
    fingerprint: str


class Refused(msgspec.Struct, frozen=True):
    """Why that state of the source is not served."""

    fingerprint: str
    reason: str


class Version(msgspec.Struct, frozen=True):
    """A version that is kept: its number, the digest over all files, their own SHA-256, and the model file of a bare one."""

    version: str
    digest: str
    files: dict[str, str]
    bare_file: str = ""

    @property
    def folder(self) -> str:
        """What its folder is called, below the model's."""
        return f"{self.version}-{self.digest[:8]}"


class Model(msgspec.Struct, frozen=True):
    """All versions of one model, the last one taken in or chosen first.

    `active` and `previous` are folders of versions, or empty. `highest` is the highest version that ever was active: it is
    remembered when the model is gone. `added` models were not dropped in and stay until they are removed.
    """

    active: str = ""
    previous: str = ""
    highest: str = ""
    versions: tuple[Version, ...] = ()
    source: Source | None = None
    added: bool = False
    refused: Refused | None = None

    def version(self, folder: str) -> Version | None:
        """The version with that folder."""
        return next((version for version in self.versions if version.folder == folder), None)


class State(msgspec.Struct, frozen=True):
    """The models of one folder, by name."""

    models: dict[str, Model] = {}
    format: int = _FORMAT

    def model(self, name: str) -> Model:
        """What is known of a model; of an unknown one, nothing."""
        return self.models.get(name, Model())


class BrokenState(ConfigError):
    """The state file is torn, or none of ours."""


def read_state(folder: Path) -> State | None:
    """The state kept in `folder`; None where there is none yet. Raises: BrokenState, ConfigError (it cannot be read)."""
    path = folder / STATE_NAME
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "Let this user read it") from error
    try:
        state = msgspec.json.decode(content, type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenState(f"{path} is damaged: {error}") from error
    if state.format != _FORMAT or len(content) > _MAX_BYTES:
        raise BrokenState(f"{path} is not of this edge-mcp")
    if not all(_is_sound(name, model) for name, model in state.models.items()):
        raise BrokenState(f"{path} names what can be no version")
    return state


def write_state(folder: Path, state: State) -> None:
    """Replace the state in one step that power loss does not tear. Raises: OSError."""
    content = msgspec.json.format(msgspec.json.encode(state), indent=1)
    draft = folder / f"{STATE_NAME}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / STATE_NAME)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have what was made, renamed or deleted in a folder survive power loss. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Be the only writer in `folder`, which has to be there. Raises: ConfigError when another one does not finish."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(folder / LOCK_NAME, flags, 0o644)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", "Let this user write there") from error
    try:
        _take(descriptor, folder, wait_s)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """What the system refuses within `folder` is told to the user. Raises: ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror or error}", "Make room, or let this user write"
        ) from error


def _take(descriptor: int, folder: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                hint = "Try again when it is done"
                raise ConfigError(f"another edge-mcp has been writing in {folder} for {wait_s:g} s", hint) from None
            time.sleep(0.02)
        else:
            return


def _is_sound(name: str, model: Model) -> bool:
    """Whether its texts are plain names: they become paths."""
    names = [name, model.active, model.previous]
    for version in model.versions:
        names += [version.folder, version.bare_file, *version.files]
    return all("/" not in part and "\0" not in part and part not in (".", "..") for part in names)
