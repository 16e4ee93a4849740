"""An argument that carries bytes: base64, a `data:` URI, or a file under a folder that the owner allowed."""

import binascii
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from edge_mcp.errors import ArgumentError

MAX_FILE_BYTES = 64 * 1024 * 1024  # twice what a peer may send inline; the device has 512 MB
_MAX_PATH = 4096  # PATH_MAX of Linux
_MAX_SHOWN = 60
_MAX_ROOTS = 3
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_WHITESPACE = b" \t\r\n\f\v"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_ACCEPTED = "Send base64 or a data: URI"
# Where an absolute path begins on Linux. Base64 begins with one of them once in a million times that it begins with "/".
_TOPS = {
    "bin", "boot", "data", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "nix",
    "opt", "proc", "root", "run", "sbin", "snap", "srv", "storage", "sys", "tmp", "usr", "var",
}  # fmt: skip
_LOWER_CASE_PATH = re.compile(r"(?:/[a-z0-9_-]+){2,}/?")  # of base64 that long, hardly any has neither A-Z nor "+" nor "="


def read_payload(text: str | bytes, roots: Sequence[Path]) -> bytes:
    """The bytes that `text` carries or names; `roots` are the folders it may name files under. Raises: ArgumentError.

    What a sensor gave is bytes already, and so is bin of MessagePack.

    Plain base64 may be of the standard or the URL-safe alphabet, with white space and without padding. A string of at most
    4096 characters that names an existing file under a root is that file, even if it could be base64; a string that cannot
    be base64 is taken for a path, and so is one that looks like an absolute path and no JPEG ("/9j/4AAQ…"), where there are
    roots. What is on the disk outside the roots has no part in that. A relative path starts at the first root.
    """
    if isinstance(text, bytes):
        return text
    scheme = _SCHEME.match(text)
    if scheme:
        return _read_uri(text, scheme[1].lower(), roots)
    if roots and 0 < len(text) <= _MAX_PATH:
        found = _read_file(text, roots)
        if found is not None:
            return found
        if _looks_like_a_path(text, roots):
            raise _not_readable(text, roots)
    decoded = decode_base64(text)
    if decoded is None:
        raise _not_readable(text, roots)
    return decoded


def _read_uri(uri: str, scheme: str, roots: Sequence[Path]) -> bytes:
    if scheme == "data":
        return _read_data_uri(uri)
    if scheme == "file":
        found = _read_file(_file_path(uri), roots) if roots else None
        if found is None:
            raise _not_readable(uri, roots)
        return found
    if scheme in ("http", "https"):
        raise ArgumentError(f"{_shown(uri)}: this server fetches nothing from the network", _ACCEPTED)
    if scheme == "sensor":
        raise ArgumentError(f"{_shown(uri)}: no such sensor is configured for this argument", _ACCEPTED)
    raise ArgumentError(f"{_shown(uri)}: URIs of the scheme {_shown(scheme)} are not read", _ACCEPTED)


def _read_data_uri(uri: str) -> bytes:
    """RFC 2397: `data:[type][;base64],DATA`."""
    comma = uri.find(",", 0, _MAX_PATH)
    if comma < 0:
        raise ArgumentError("the data: URI has no comma before its data", "Write data:TYPE;base64,DATA")
    head, body = uri[:comma].rstrip().lower(), uri[comma + 1 :]
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    decoded = decode_base64(unquote(body) if "%" in body else body)
    if decoded is None:
        raise ArgumentError("the data: URI's data is not valid base64")
    return decoded


def decode_base64(text: str) -> bytes | None:
    """The bytes, or None when `text` is not base64 (RFC 4648, sections 4 and 5)."""
    try:
        digits = text.encode("ascii").translate(_URL_SAFE, _WHITESPACE)
    except UnicodeEncodeError:
        return None
    bare = digits.rstrip(b"=")
    if len(digits) - len(bare) > 2 or len(bare) % 4 == 1:
        return None
    try:
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except binascii.Error:
        return None


def _file_path(uri: str) -> str:
    """RFC 8089: `file:/path`, `file:///path` or `file://localhost/path`; a relative `file:path` is tolerated."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise ArgumentError(f"{_shown(uri)} is not a valid file: URI", "Write file:///path") from None
    if parts.netloc not in ("", "localhost"):
        raise ArgumentError(f"{_shown(uri)} names a file of another machine", "Write file:///path")
    return unquote(parts.path)


def _read_file(name: str, roots: Sequence[Path]) -> bytes | None:
    """The content of a regular file under a root; None when there is none, and the same when it lies outside.

    The path is first opened with O_PATH, which has no effect on what it names (a FIFO does not block, a device is not
    started), and what was really opened, all links followed, is asked of the kernel: nobody can swap it in between.
    """
    try:
        handle = os.open(roots[0] / name, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        same = f"/proc/self/fd/{handle}"
        real = Path(os.readlink(same))  # noqa: PTH115 - a Path would be as long
        if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
            return None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ArgumentError(f"{_shown(name)} is not a regular file")
        return _read_opened(same, name)
    finally:
        os.close(handle)


def _read_opened(path: str, name: str) -> bytes:
    try:
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"{_shown(name)} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ArgumentError(f"{_shown(name)} is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def _looks_like_a_path(text: str, roots: Sequence[Path]) -> bool:
    """Whether base64 that begins with "/" is meant as a path: below a usual top folder or a root's, or all in lower case."""
    if not text.startswith("/"):
        return False
    tops = _TOPS.union(*(root.absolute().parts[1:2] for root in roots))
    return text.strip("/").partition("/")[0] in tops or _LOWER_CASE_PATH.fullmatch(text) is not None


def _not_readable(text: str, roots: Sequence[Path]) -> ArgumentError:
    if not roots:
        return ArgumentError(f"{_shown(text)} is not base64, and this server reads no files for this connection", _ACCEPTED)
    below = " or ".join(str(root) for root in roots[:_MAX_ROOTS])
    return ArgumentError(
        f"{_shown(text)} is neither base64 nor a file that this server may read", f"{_ACCEPTED}. Files may be below {below}"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")
