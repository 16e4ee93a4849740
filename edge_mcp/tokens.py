"""The bearer token of the network listener: where it is found, and how one is made."""

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from edge_mcp import private_files
from edge_mcp.config import data_folder
from edge_mcp.errors import ConfigError

VARIABLE = "EDGE_MCP_TOKEN"
_MIN_LENGTH = 16
_MAX_BYTES = 4096


def own_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `edge-mcp token` keeps the token: where systemd takes its copy from, for the service's owner, who may write there;
    the copy itself is nobody's to write."""
    credentials = environment.get("CREDENTIALS_DIRECTORY", "")
    return (Path(credentials) if credentials and os.access(credentials, os.W_OK) else data_folder()) / "token"


def find(token_file: str, environment: Mapping[str, str] = os.environ) -> str:
    """The token that peers have to show, or nothing where there is none. Raises: ConfigError.

    The first of: the setting `token_file`, the variable EDGE_MCP_TOKEN, systemd's credential `token`, and the token that
    `edge-mcp token` made.
    """
    credentials = Path(environment["CREDENTIALS_DIRECTORY"]) if environment.get("CREDENTIALS_DIRECTORY") else None
    if token_file and Path(token_file).parent != credentials:
        return read(Path(token_file))
    if not token_file and VARIABLE in environment:
        return _checked(environment[VARIABLE], VARIABLE)
    if credentials is not None:
        credential = credentials / (Path(token_file).name or "token")
        if token_file or credential.is_file():
            return _checked(_content(credential), str(credential))  # systemd sees to who may read it
    return read(data_folder() / "token") if _may_exist(data_folder() / "token") else ""


def _may_exist(file: Path) -> bool:
    """Whether there is such a file, or that cannot be known: a token that is there must not be passed over."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def read(file: Path) -> str:
    """The token in a file that nobody else may read. Raises: ConfigError."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        hint = "Make a token: edge-mcp token" if isinstance(error, FileNotFoundError) else "Name another with --token-file"
        raise ConfigError(f"the token file {file} cannot be read: {error.strerror}", hint) from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"the token file {file} is no file")
    if mode & 0o077:
        raise ConfigError(f"others may read the token file {file}", f"Run: chmod 600 {file}")
    return _checked(_content(file), str(file))


def make(file: Path) -> str:
    """Make a new token and keep it in `file`, which only its owner may read. Raises: ConfigError."""
    token = secrets.token_urlsafe(32)
    private_files.write(file, f"{token}\n".encode())
    return token


def _content(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_BYTES + 1).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"the token file {file} cannot be read: {error.strerror}") from error


def _checked(text: str, origin: str) -> str:
    token = text.strip()
    if len(token) < _MIN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{origin} has no token",
            f"A token has {_MIN_LENGTH} or more letters, digits and signs. Make one: edge-mcp token --new",
        )
    return token
